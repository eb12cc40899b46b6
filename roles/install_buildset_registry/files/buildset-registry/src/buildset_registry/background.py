# SPDX-License-Identifier: Apache-2.0
"""Background tasks: nobody waits for one, so one that fails says so, and is started again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")

_log = logging.getLogger("buildset_registry")

#: Seconds until a task is started again, the first time and at most.
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


def supervised(
    name: str, work: Callable[[], Coroutine[Any, Any, None]], pause: float = _FIRST_PAUSE
) -> asyncio.Task[None]:
    """Begin a task that is to go on for ever; cancel it to end it, and ``stop`` waits for that.

    ``pause`` is how many seconds it rests after it failed the first time; twice as long each time
    after that, up to a minute, until it went on for longer than a minute.
    """
    return asyncio.create_task(_again_and_again(name, work, pause))


async def stop(task: asyncio.Future[Any]) -> None:
    """End a task, whatever it does."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def in_thread(work: Callable[[], _Result]) -> _Result:
    """Return what work gives that may wait long; the end of the process does not wait for it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Result] = loop.create_future()

    def settle(error: BaseException | None, result: Any) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def run() -> None:
        error, result = None, None
        try:
            result = work()
        except Exception as failure:
            error = failure
        with contextlib.suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(settle, error, result)

    threading.Thread(target=run, daemon=True).start()
    return await done


def told(error: BaseException) -> str:
    """Return an error that nobody foresaw in a line: its kind, its words, and where it began."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return " ".join(f"{type(error).__name__}: {error}{place}".split())


async def _again_and_again(name: str, work: Callable[[], Awaitable[None]], first: float) -> None:
    pause = first
    while True:
        began = time.monotonic()
        try:
            await work()
            return
        except Exception as error:
            if time.monotonic() - began > _LONGEST_PAUSE:
                pause = first
            _log.error("%s failed: %s; again in %g s", name, told(error), pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
