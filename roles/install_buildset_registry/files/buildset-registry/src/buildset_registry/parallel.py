# SPDX-License-Identifier: Apache-2.0
"""Work of which nothing goes on behind the back of who asked for it.

``asyncio.gather`` tells of the first failure and lets the rest go on; who is cancelled waits no
longer for a thread, or for what is shielded, which goes on, too: what it changes then, it changes
under whoever tries again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar, overload

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_One = TypeVar("_One")
_Two = TypeVar("_Two")
_Three = TypeVar("_Three")

#: Requests for one purpose that are under way at once.
_TOGETHER = 16


@overload
async def all_of(one: Awaitable[_One], two: Awaitable[_Two], /) -> tuple[_One, _Two]:
    """Of two."""


@overload
async def all_of(
    one: Awaitable[_One], two: Awaitable[_Two], three: Awaitable[_Three], /
) -> tuple[_One, _Two, _Three]:
    """Of three."""


async def all_of(*works: Awaitable[Any]) -> tuple[Any, ...]:
    """Return what different things give; the first failure is raised when all have ended."""
    ended = await asyncio.gather(*works, return_exceptions=True)
    failed = next((one for one in ended if isinstance(one, BaseException)), None)
    if failed is None:
        return tuple(ended)
    try:
        raise failed
    finally:
        del failed, ended  # an error whose own traceback holds it keeps an upload in use


async def to_its_end(work: Awaitable[_Result], most: float | None = None) -> _Result:
    """Return what work gives that is not to be broken off: who is cancelled is so at its end.

    Or after ``most`` seconds, by which it is broken off.
    """
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task], timeout=most if cancelled else None)
            if not task.done():
                task.cancel()
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError from (None if task.cancelled() else task.exception())
    return task.result()


async def together(
    items: Iterable[_Item], work: Callable[[_Item], Awaitable[_Result]], most: int = _TOGETHER
) -> list[_Result]:
    """Do the same with many things, some at once; return the results in their order.

    The first failure cancels the rest, and is raised when all have ended.
    """
    turns = asyncio.Semaphore(most)

    async def one(item: _Item) -> _Result:
        async with turns:
            return await work(item)

    tasks = [asyncio.ensure_future(one(item)) for item in items]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
