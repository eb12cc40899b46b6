# SPDX-License-Identifier: Apache-2.0
"""Waiting for a client, but not for ever."""

from __future__ import annotations

import asyncio
from types import TracebackType

from buildset_registry.errors import RequestTimeout


class Patience:
    """End the waiting of the current task after some seconds, by ``RequestTimeout``.

    Entered for each piece of a body, so it has to be cheap: ``asyncio.wait_for`` makes a task each
    time before Python 3.12, and ``asyncio.timeout`` is not in 3.10.
    """

    __slots__ = ("_expired", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False

    def __enter__(self) -> None:
        if self._seconds:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds, self._expire)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._expired and isinstance(error, asyncio.CancelledError):
            raise RequestTimeout(
                f"nothing was received for {self._seconds:g} seconds (limits.body_seconds)",
                headers={"Connection": "close"},
            ) from None

    def _expire(self) -> None:
        self._expired = True
        if self._task is not None:
            self._task.cancel()
