# SPDX-License-Identifier: Apache-2.0
"""Sorted lists of names that were read a moment ago.

Another process may have changed one since; this one's own changes are seen at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

_Name = TypeVar("_Name", bound=str)

#: Seconds for which a list is good: a client that reads it page by page asks for it many times.
_SECONDS = 5.0
#: Names in all lists.
_MOST = 200_000


class RecentLists(Generic[_Name]):
    """Lists by key; one that many ask for at once is read once."""

    def __init__(self, seconds: float = _SECONDS, most: int = _MOST) -> None:
        self._seconds = seconds
        self._most = most
        self._lists: OrderedDict[str, tuple[Sequence[_Name], float]] = OrderedDict()
        self._changes: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(
        self, key: str, read: Callable[[], Awaitable[Iterable[_Name]]]
    ) -> Sequence[_Name]:
        """Return a list; nobody changes it."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                names, until = self._lists.get(key, ((), 0.0))
                if time.monotonic() < until:
                    return names
                before = self._changes.setdefault(key, 0)
                names = sorted(await read())
                if self._changes.get(key) == before:
                    self._keep(key, names)
                return names
        finally:
            if not lock.locked():
                self._locks.pop(key, None)
                self._changes.pop(key, None)

    def forget(self, key: str) -> None:
        """Read a list again when it is asked for next."""
        self._lists.pop(key, None)
        if key in self._changes:
            self._changes[key] += 1

    def _keep(self, key: str, names: Sequence[_Name]) -> None:
        self._lists[key] = (names, time.monotonic() + self._seconds)
        self._lists.move_to_end(key)
        total = sum(len(names) for names, _until in self._lists.values())
        while total > self._most and len(self._lists) > 1:
            total -= len(self._lists.popitem(last=False)[1][0])
