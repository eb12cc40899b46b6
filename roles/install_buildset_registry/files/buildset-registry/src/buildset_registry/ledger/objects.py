# SPDX-License-Identifier: Apache-2.0
"""A ledger in an object store: one object a server and hour, read back as one ledger.

::

    <hour>/<server>-<number>.jsonl

An object cannot be appended to. So that of the hour is written again, whole, whenever there is
more to tell, and holds each row once; one that is large is followed by another one. Nobody else
writes to it: servers share nothing.
"""

from __future__ import annotations

import asyncio
import errno
import time
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from buildset_registry.ledger.content import LedgerContent, RowReader
from buildset_registry.ledger.rows import stamp
from buildset_registry.pacing import paced
from buildset_registry.parallel import together
from buildset_registry.store.ledger import LedgerObjects

#: Bytes past which an object is followed by another one: it is sent twice a second.
_LARGE = 1024 * 1024
#: Bytes past which an object is none of ours.
_LARGEST = 4 * _LARGE
#: Seconds that a write may take; a server that ends waits for it.
_SECONDS = 10.0
#: Objects that are read at once.
_TOGETHER = 8
#: Characters of a time that tell the hour.
_HOUR = len("2026-01-31T23")


class HourlyObjects:
    """The objects of one server, to add to; all of them together have ``most`` bytes."""

    def __init__(
        self, objects: LedgerObjects, most: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._objects = objects
        self._most = most
        self._clock = clock
        self._server = uuid.uuid4().hex[:12]
        self._number = 0
        self._hour = ""
        self._lines: dict[str, bytes] = {}
        self._crowded = False

    async def write(self, waiting: dict[str, bytes]) -> None:
        """Write lines of rows to the object of this hour, or to several of them."""
        while waiting:
            await self._write(waiting)

    async def _write(self, waiting: dict[str, bytes]) -> None:
        hour = stamp(self._clock())[:_HOUR]
        size = sum(map(len, self._lines.values()))
        begun = hour != self._hour or size >= _LARGE
        lines, size = ({}, 0) if begun else (dict(self._lines), size)
        taken = []
        for which, line in waiting.items():
            lines[which] = line
            size += len(line)
            taken.append(which)
            if size >= _LARGE:
                break
        # Counted over all hours: a clock may go back to one that was written to.
        number = self._number + begun
        name, content = f"{hour}/{self._server}-{number:06d}.jsonl", b"".join(lines.values())
        await _in_time(self._objects.write(name, content))
        self._hour, self._number, self._lines = hour, number, lines
        for which in taken:
            del waiting[which]
        self._crowded |= begun
        if self._crowded:
            # What was written is written, whatever becomes of the oldest: that is tried again.
            with suppress(OSError):
                await _in_time(self._make_room(name))
                self._crowded = False

    async def _make_room(self, kept: str) -> None:
        """Remove the oldest objects, whoever wrote them, while all have too many bytes.

        ``kept`` is the one that is written to.
        """
        known = await _listed(self._objects)
        size = sum(size for _name, size in known)
        for name, one in known:
            if size <= self._most:
                return
            if name == kept:
                continue
            await self._objects.remove(name)
            size -= one


async def read_objects(objects: LedgerObjects) -> LedgerContent:
    """Read what all servers wrote; what cannot be read is told, and stops nothing."""
    reader, problems = RowReader(), list[str]()
    try:
        listed = await _listed(objects)
        problems += [f"{name}: too large" for name, size in listed if size > _LARGEST]
        names = [name for name, size in listed if size <= _LARGEST]
        for start in range(0, len(names), _TOGETHER):
            for written in await together(names[start : start + _TOGETHER], objects.read):
                async for line in paced((written or b"").splitlines()):
                    reader.add(line)
    except OSError as error:
        problems.append(f"the object store: {error.strerror}")
    content = reader.content(problems)
    content.rows.sort(key=lambda row: str(row["time"]))
    content.parallel = True
    return content


async def _in_time(work: Coroutine[Any, Any, None]) -> None:
    """Do something with the store, or raise ``OSError``: a server that ends waits for it."""
    try:
        await asyncio.wait_for(work, _SECONDS)
    except asyncio.TimeoutError:
        raise OSError(errno.ETIMEDOUT, "the object store does not answer") from None


async def _listed(objects: LedgerObjects) -> list[tuple[str, int]]:
    """Return names and sizes, oldest hour first; of one server in the order of its numbers."""
    return sorted([one async for page in objects.list() for one in page])
