# SPDX-License-Identifier: Apache-2.0
"""The event loop under watch: for how long something holds it at most.

In processor time of its thread, so that a busy machine changes nothing. Python's own collector,
which holds it the longer the more there is, does not look at what other tests have left.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable
from typing import TypeVar

_Result = TypeVar("_Result")


async def longest_hold(work: Awaitable[_Result]) -> tuple[float, _Result]:
    """Return the seconds for which other requests had no turn beside some work, and its result."""
    gc.freeze()
    try:
        return await _watched(asyncio.ensure_future(work))
    finally:
        gc.unfreeze()


async def _watched(task: asyncio.Future[_Result]) -> tuple[float, _Result]:
    longest, before = 0.0, time.thread_time()
    while not task.done():
        await asyncio.sleep(0.001)
        now = time.thread_time()
        longest, before = max(longest, now - before), now
    return longest, await task
