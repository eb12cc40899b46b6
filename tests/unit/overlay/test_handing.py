# SPDX-License-Identifier: Apache-2.0
"""The bounds within which registries are asked for what is handed over."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from buildset_registry.oci.names import Reference, RepositoryName
from buildset_registry.overlay import handing
from buildset_registry.overlay.document import Overlay

from tests.unit.overlay.test_document import IMAGE, handed, text


class Silent:
    """A client of a registry that never answers."""

    def __init__(self) -> None:
        self.asked = 0

    async def head(self, _name: RepositoryName, _reference: Reference) -> None:
        """Wait for an answer."""
        self.asked += 1
        await asyncio.Event().wait()

    async def close(self) -> None:
        """End no connection."""


async def test_many_tokens_are_asked_with_within_the_bounds_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image has a token of its own, and the registry hangs: all takes the same time."""
    silent = Silent()
    monkeypatch.setattr(handing, "holder_client", lambda _holder, _folder: silent)
    monkeypatch.setattr(handing, "_SECONDS", 0.2)
    several = [
        handed({f"quay.io/org/app:v{number}": IMAGE}, token=f"token.{number}")
        for number in range(40)
    ]
    lines = await handing.failures(Overlay.parse(text(*several), "test"), tmp_path)
    assert len(lines) == 40
    assert all("does not answer within 0.2 s" in line for line in lines)
    assert silent.asked == 16
