# SPDX-License-Identifier: Apache-2.0
"""Registries in processes of their own, which end with the test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.reliability.server import Server


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority of the tests' own."""
    return trustme.CA()


@pytest.fixture
def serve(tmp_path: Path, authority: trustme.CA) -> Iterator[Callable[..., Server]]:
    """Start a registry, ``below`` another program, with what else its configuration says."""
    with contextlib.ExitStack() as stack:

        def start(name: str = "registry", *, below: Sequence[str] = (), **settings: Any) -> Server:
            made = Server(tmp_path / name, authority, **settings)
            stack.callback(made.stop)
            made.start(*below)
            return made

        yield start


@pytest.fixture
def server(serve: Callable[..., Server]) -> Server:
    """A registry that runs."""
    return serve()
