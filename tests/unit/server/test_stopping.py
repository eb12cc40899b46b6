# SPDX-License-Identifier: Apache-2.0
"""A server that ends: the time that its requests may take is neither passed nor forgotten."""

from __future__ import annotations

import time
from typing import Any

from buildset_registry.server import serve


class Busy:
    """A server on a busy machine, which runs a request for ever."""

    @property
    def idle(self) -> bool:
        time.sleep(0.03)
        return False


async def test_waiting_for_requests_leaves_them_time_to_end() -> None:
    """However long each look takes: no time left would be as much as they want."""
    busy: Any = Busy()
    began = time.monotonic()
    assert await serve._wait_until_idle(busy, 1) == 0
    assert time.monotonic() - began < 2
