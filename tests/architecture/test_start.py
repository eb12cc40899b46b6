# SPDX-License-Identifier: Apache-2.0
"""What has nothing to do yet has loaded nothing for it: start-up and memory are small."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: For upstreams, for passwords, for tokens of others, for keys that have to be converted.
LATER = ("aiohttp", "bcrypt", "cryptography", "jwt", "passlib")
SERVER = "import sys, buildset_registry.server.serve; print(*sys.modules)"
COMMAND = """
import sys
from buildset_registry.cli import make_parser
make_parser(sys.argv[1:])
print(*sys.modules)
"""


def modules(program: str, *words: str) -> set[str]:
    """Return the modules that a program has loaded, in a process of its own."""
    argv = [sys.executable, "-c", program, *words]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The modules that the server's own brings with it."""
    return modules(SERVER)


@pytest.mark.parametrize("library", LATER)
def test_a_library_is_loaded_by_whom_first_needs_it(loaded: set[str], library: str) -> None:
    """The client for upstreams alone takes 12 MiB and twice the time of the rest."""
    assert library not in loaded


def test_the_server_itself_is_loaded(loaded: set[str]) -> None:
    """Otherwise nothing would be."""
    assert {"granian", "buildset_registry.registry"} <= loaded


def test_a_command_loads_no_other() -> None:
    """All of them take longer than a short one does."""
    found = {name for name in modules(COMMAND, "copy", "a", "b") if "registry.cli." in name}
    assert "buildset_registry.cli.copy" in found
    assert not {"buildset_registry.cli.up", "buildset_registry.cli.use"} & found
    assert {"buildset_registry.cli.up", "buildset_registry.cli.use"} <= modules(COMMAND, "--help")
