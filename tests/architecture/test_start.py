# SPDX-License-Identifier: Apache-2.0
"""A registry with nothing to do yet has loaded nothing for it: start-up and memory are small."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: For upstreams, for passwords, for tokens of others, for keys that have to be converted.
LATER = ("aiohttp", "bcrypt", "cryptography", "jwt", "passlib")
PRINT = "import sys, buildset_registry.server.serve; print(*sys.modules)"


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The modules that the server's own brings with it, in a process of its own."""
    words = [sys.executable, "-c", PRINT]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("library", LATER)
def test_a_library_is_loaded_by_whom_first_needs_it(loaded: set[str], library: str) -> None:
    """The client for upstreams alone takes 12 MiB and twice the time of the rest."""
    assert library not in loaded


def test_the_server_itself_is_loaded(loaded: set[str]) -> None:
    """Otherwise nothing would be."""
    assert {"granian", "buildset_registry.registry"} <= loaded
