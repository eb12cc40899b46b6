# SPDX-License-Identifier: Apache-2.0
"""A server that ends: the time that its requests may take is neither passed nor forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from buildset_registry.server import serve


class Busy:
    """A server on a busy machine, which runs a request for ever, and the time of that machine."""

    now = 1000.0
    looks = 0

    @property
    def idle(self) -> bool:
        self.looks += 1
        self.now += 0.3
        return False

    def monotonic(self) -> float:
        return self.now


async def test_waiting_for_requests_leaves_them_time_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long each look takes: no time left would be as much as they want."""
    busy: Any = Busy()
    monkeypatch.setattr(serve, "time", busy)
    monkeypatch.setattr(serve, "_LOOKING_SECONDS", 0)
    assert await serve._wait_until_idle(busy, 1) == 0
    assert busy.looks == 3  # two thirds of the second had not passed before
    assert await serve._wait_until_idle(busy, 30) == 20
