# SPDX-License-Identifier: Apache-2.0
"""Registries of the tests' own at both ends, and a copy that has no time for pauses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from buildset_registry.transfer.copy import CopyOptions, CopyReport, copy_images
from buildset_registry.transfer.ends import EndAccess
from buildset_registry.transfer.image_names import requests
from buildset_registry.transfer.platforms import parse_platform

from tests.unit.transfer.fake_registry import FakeRegistry, serving

Copy = Callable[..., CopyReport]
PATIENCE = 0.001


@pytest.fixture
def source() -> Iterator[FakeRegistry]:
    """The registry that images come from."""
    with serving() as registry:
        yield registry


@pytest.fixture
def destination() -> Iterator[FakeRegistry]:
    """The registry that they go to."""
    with serving() as registry:
        yield registry


@pytest.fixture
def copy(monkeypatch: pytest.MonkeyPatch) -> Copy:
    """Copy as the command does, without what the machine knows of registries."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def run(
        *words: str, login: Any = None, platforms: tuple[str, ...] = (), **more: Any
    ) -> CopyReport:
        *sources, target = words
        options = CopyOptions(
            patience=PATIENCE, platforms=tuple(map(parse_platform, platforms)), **more
        )
        access = EndAccess(login=login, authfile="/dev/null")
        return copy_images(requests(sources, target), access, access, options)

    return run
