# SPDX-License-Identifier: Apache-2.0
"""Long work in short steps: the event loop is never held for more than some milliseconds.

What a client or an upstream sends decides how large a manifest is and how many of them there are,
so whatever is read, parsed or walked goes through here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

#: After so many steps other requests have their turn.
STEPS = 20
#: Bytes past which content is parsed in a thread: below it takes less than the way there.
_LARGE = 64 * 1024

#: Steps that may wait for a store of objects at once.
AT_ONCE = 16

#: One at a time: whoever parses keeps Python's lock to the end, and many in a row would have it.
_PARSERS = ThreadPoolExecutor(1, "aside")

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


async def paced(items: Iterable[_Item]) -> AsyncIterator[_Item]:
    """Yield items, and let other requests have their turn every now and then."""
    for number, item in enumerate(items, 1):
        yield item
        if number % STEPS == 0:
            await asyncio.sleep(0)


async def spread(items: Iterable[_Item], work: Callable[[_Item], Awaitable[object]]) -> None:
    """Do the same with many things, some at once; the first failure ends it."""
    waiting = iter(items)

    async def go_on() -> None:
        for item in waiting:
            await work(item)
            await asyncio.sleep(0)  # others have their turn, too, where it has waited for nothing

    tasks = [asyncio.ensure_future(go_on()) for number in range(AT_ONCE)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def aside(size: int, work: Callable[[], _Result]) -> _Result:
    """Return what work on so many bytes gives; much of it is done in a thread."""
    if size < _LARGE:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_PARSERS, work)
