# SPDX-License-Identifier: Apache-2.0
"""Requests that are cancelled as they wait for something, whatever that is."""

from __future__ import annotations

import asyncio
import time
import types
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

#: Seconds that each thread's work takes longer.
_SLOW = 0.003
#: Work that changes nothing.
_READS = ("ListCache.read", "hash_file", "wait_for_disk")


async def is_cut(number: int, work: Coroutine[Any, Any, object], times: int = 1) -> bool:
    """Do work whose task is cancelled as it waits for the n-th time, and for what follows.

    False where it did not wait as often; what it raises itself is raised.
    """
    cut: list[int] = []
    task = asyncio.ensure_future(_counted(number, work, times, cut))
    with suppress(asyncio.CancelledError):
        await task
    return bool(cut)


@types.coroutine
def _counted(
    number: int, work: Coroutine[Any, Any, object], times: int, cut: list[int]
) -> Generator[Any, Any, None]:
    task = asyncio.current_task()
    assert task
    waits, error = 0, None
    while True:
        try:
            waited = work.send(None) if error is None else work.throw(error)
        except StopIteration:
            return
        waits += 1
        if number <= waits < number + times:
            cut.append(waits)
            asyncio.get_running_loop().call_soon(task.cancel)
        error = None
        try:
            yield waited
        except BaseException as raised:
            error = raised


class SlowThreads:
    """The threads of a loop, each a little slow, and what runs in them."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(8)
        self._begun: list[tuple[Future[Any], Callable[..., Any]]] = []
        loop = asyncio.get_running_loop()
        loop.run_in_executor = self._run  # type: ignore[method-assign,assignment]

    def running(self) -> list[str]:
        """Return what is under way, and may change something."""
        works = [work for future, work in self._begun if future.running()]
        names = [str(getattr(work, "args", [work])[0].__qualname__) for work in works]
        return [name for name in names if name not in _READS]

    def close(self) -> None:
        self._pool.shutdown()

    def _run(self, _pool: object, work: Callable[..., Any], *given: Any) -> asyncio.Future[Any]:
        def slow() -> Any:
            time.sleep(_SLOW)
            return work(*given)

        future = self._pool.submit(slow)
        self._begun = [one for one in self._begun if not one[0].done()] + [(future, work)]
        return asyncio.wrap_future(future)
