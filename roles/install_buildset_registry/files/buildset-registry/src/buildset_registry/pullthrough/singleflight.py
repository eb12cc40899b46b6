# SPDX-License-Identifier: Apache-2.0
"""Single flight: one answer for all who ask for the same at the same time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

from buildset_registry.errors import RegistryError

_log = logging.getLogger("buildset_registry.upstream")
_Key = TypeVar("_Key", bound=Hashable)
_Result = TypeVar("_Result")


class SingleFlight(Generic[_Key, _Result]):
    """Work that is under way, by what it is for. The work outlives those who wait for it."""

    def __init__(self) -> None:
        self._tasks: dict[_Key, asyncio.Task[_Result]] = {}

    async def join(self, key: _Key, start: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
        """Wait for the work that is under way for ``key``; ``start`` it where there is none."""
        return await asyncio.shield(self._tasks.get(key) or self.begin(key, start))

    def begin(
        self, key: _Key, start: Callable[[], Coroutine[Any, Any, _Result]]
    ) -> asyncio.Task[_Result]:
        """Start work that nobody needs to wait for."""
        task = self._tasks[key] = asyncio.create_task(start())
        task.add_done_callback(partial(self._forget, key))
        return task

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, key: _Key, task: asyncio.Task[_Result]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        # Seen: those who waited for it may have left, and hear of no refusal any more.
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, RegistryError | OSError):
            _log.error("work for %s failed", key, exc_info=error)
