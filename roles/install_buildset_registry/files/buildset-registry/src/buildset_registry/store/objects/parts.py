# SPDX-License-Identifier: Apache-2.0
"""Content on its way into an object: gathered into parts, which are sent while more arrives.

What is gathered and not sent yet takes memory, of which all uploads of the process have one budget.
A part that finds none left is gathered in a temporary file: a slow client must not keep the memory
from the others, nor they him from going on.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from buildset_registry.parallel import to_its_end
from buildset_registry.pieces import Pieces
from buildset_registry.store.floor import floor_of, full
from buildset_registry.store.objects.dialect import (
    Body,
    Dialect,
    ObjectFailure,
    ObjectPart,
    PartUpload,
)

_PIECE = 256 * 1024
_LOST = "a part of what was sent was not stored; send it again"


class PartBudget:
    """Memory for parts, taken before they are gathered; past it there are temporary files."""

    def __init__(self, limit: int, disk: TemporaryDisk | None = None) -> None:
        self._free = limit
        self._disk = disk

    def spool(self) -> Spool:
        """Return a new temporary file, on whose disk so much stays free as is said."""
        return Spool(self._disk)

    def take(self, size: int) -> bool:
        """Take memory for a part, if there is some left."""
        if size > self._free:
            return False
        self._free -= size
        return True

    def give_back(self, size: int) -> None:
        """Let others have what was taken."""
        self._free += size


class PartBuffer(Protocol):
    """A part that is gathered."""

    size: int

    def add(self, piece: bytes) -> None:
        """Add what arrived."""

    def body(self) -> Body:
        """Return it as it is to be sent."""

    def release(self) -> None:
        """Let go of it."""


class MemoryPart:
    """A part in the pieces in which it came, as far as these are worth being objects."""

    def __init__(self, budget: PartBudget, reserved: int) -> None:
        self.size = 0
        self._budget = budget
        self._reserved = reserved
        self._pieces = Pieces()

    def add(self, piece: bytes) -> None:
        self._pieces.add(piece)
        self.size += len(piece)

    def body(self) -> Body:
        return Body(self.size, self._pieces.all())

    def release(self) -> None:
        self._pieces = Pieces()
        self._budget.give_back(self._reserved)
        self._reserved = 0

    def __del__(self) -> None:
        self.release()


class TemporaryDisk:
    """The disk of temporary files; ``floor`` bytes of it stay free."""

    def __init__(self, floor: int | None = None) -> None:
        self._folder = tempfile.gettempdir()
        state = os.statvfs(self._folder)
        self._floor = floor_of(state.f_blocks * state.f_frsize, floor)

    def require(self) -> None:
        """Raise ``StorageFull`` when no more than the floor is left."""
        state = os.statvfs(self._folder)
        if self._floor and state.f_bavail * state.f_frsize <= self._floor:
            disk, advice = f"the disk of temporary files ({self._folder})", "set TMPDIR to a larger"
            raise full(disk, self._floor, f"{advice} one")


class Spool:
    """A temporary file that nobody else sees, and that is gone with whoever has it open."""

    def __init__(self, disk: TemporaryDisk | None = None) -> None:
        self._disk = disk
        self._descriptor = _temporary()
        weakref.finalize(self, os.close, self._descriptor)
        self.size = 0

    def add(self, piece: bytes) -> None:
        """Write at the end; ``StorageFull`` where its disk is."""
        if self._disk is not None:
            self._disk.require()
        view = memoryview(piece)
        while view:
            written = os.pwrite(self._descriptor, view, self.size)
            self.size += written
            view = view[written:]

    def read(self, start: int, length: int) -> bytes:
        """Return up to so many bytes."""
        return os.pread(self._descriptor, length, start)


class SpoolReader:
    """Reads what of a download has arrived, also after its end."""

    def __init__(self, spool: Spool | None) -> None:
        self._spool = spool

    async def read(self, offset: int, length: int) -> bytes:
        return b"" if self._spool is None else self._spool.read(offset, length)

    def close(self) -> None:
        self._spool = None


def _temporary() -> int:
    """Open a file that has no name."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class SpooledPart:
    """A part in a temporary file, of its own or from where another one ended."""

    def __init__(self, spool: Spool) -> None:
        self.size = 0
        self._spool = spool
        self._start = spool.size

    def add(self, piece: bytes) -> None:
        self._spool.add(piece)
        self.size += len(piece)

    def body(self) -> Body:
        return Body(self.size, _SpooledPieces(self._spool, self._start, self._start + self.size))

    def release(self) -> None:
        """It goes with its file."""


@dataclass(frozen=True, slots=True)
class _SpooledPieces:
    """A range of a spool, piece by piece."""

    spool: Spool
    start: int
    end: int

    def __iter__(self) -> Iterator[bytes]:
        for start in range(self.start, self.end, _PIECE):
            yield self.spool.read(start, min(_PIECE, self.end - start))


class PartWriter:
    """Cuts what arrives into parts of one object and sends them, a few at once."""

    def __init__(self, dialect: Dialect, budget: PartBudget, key: str) -> None:
        self.key = key
        self.upload: PartUpload | None = None
        #: The parts that were cut, whether they have arrived or not.
        self.parts: list[ObjectPart] = []
        #: Called before anything of the object is at the service.
        self.before: Callable[[], Awaitable[None]] | None = None
        #: Whether its parts were begun here, not by an earlier request.
        self.began = False
        #: Whether the service may have begun what it has not told the identifier of.
        self.doubtful = False
        #: Where parts go that are to be read meanwhile.
        self.spool: Spool | None = None
        self._dialect = dialect
        self._budget = budget
        self._part_size = dialect.abilities.part_size
        self._buffer: PartBuffer | None = None
        self._sends: list[asyncio.Task[ObjectPart]] = []
        self._lost = False

    @property
    def tail(self) -> Body:
        """What is gathered, and fills no part yet."""
        return Body(0, ()) if self._buffer is None else self._buffer.body()

    def resume(self, upload: PartUpload, parts: Sequence[ObjectPart]) -> None:
        """Go on with what has arrived earlier."""
        self.upload, self.parts = upload, list(parts)

    def rename(self, key: str) -> None:
        """Let what was begun for another key become an object of this one."""
        self.key = key
        if self.upload is not None:
            self.upload = replace(self.upload, key=key)

    def hold(self, tail: bytes) -> None:
        """Go on with what was gathered earlier."""
        self._buffer = self._new_buffer()
        self._buffer.add(tail)

    async def write(self, piece: bytes) -> None:
        """Take what arrived."""
        start = 0
        while start < len(piece):
            if self._buffer is None:
                self._buffer = self._new_buffer()
            # What another replica left may be more than a part has here.
            end = start + max(0, self._part_size - self._buffer.size)
            cut = piece[start:end] if start or end < len(piece) else piece
            self._buffer.add(cut)
            start += len(cut)
            if self._buffer.size >= self._part_size:
                await self._send()

    async def settle(self, size: int) -> None:
        """Wait for what is being sent; raises ``ObjectFailure`` for ever where some of it was not.

        ``size`` bytes came so far, and have to be at the service or gathered then. Their digest
        tells nothing of a part that is missing: it would be a hole in a blob.
        """
        try:
            sent = await asyncio.gather(*self._sends)
        except BaseException:
            await self.stop()
            raise
        self._sends = []
        self.parts += sent
        if self._lost or size != sum(part.size for part in self.parts) + self.tail.size:
            raise ObjectFailure(_LOST)

    async def round_off(self, size: int) -> None:
        """Send the rest as a part of its own, where it may be one: it need not be sent twice."""
        await self.settle(size)  # or the rest would have the number of a part that is missing
        least = self._dialect.abilities.least_rest
        if self.upload is not None and least is not None and self.tail.size >= least:
            await self._send()
            await self.settle(size)

    async def flush(self, size: int) -> None:
        """Send the rest; nothing can come behind it."""
        await self.settle(size)
        if self._buffer is not None and self._buffer.size:
            await self._send()
            await self.settle(size)

    async def finish(self, size: int, *, once: bool = False) -> None:
        """Send the rest, and make the object what was written; for one with parts only."""
        await self.flush(size)
        if self.upload is not None:
            await self._dialect.complete(self.upload, self.parts, once=once)

    async def abort(self) -> None:
        """Leave nothing at the service."""
        await self.stop()
        self.drop()
        if self.upload is not None:
            upload, self.upload = self.upload, None
            await self._dialect.abort(upload)

    def drop(self) -> None:
        """Forget what is gathered."""
        if self._buffer is not None:
            self._buffer.release()
            self._buffer = None

    def _new_buffer(self) -> PartBuffer:
        if self.spool is not None:
            return SpooledPart(self.spool)
        if self._budget.take(self._part_size):
            return MemoryPart(self._budget, self._part_size)
        return SpooledPart(self._budget.spool())

    async def _send(self) -> None:
        """Begin to send what is gathered, after others that are on their way."""
        upload = self.upload or await self._begin()
        buffer, self._buffer = self._buffer, None
        number = len(self.parts) + len(self._sends) + 1
        if number > self._dialect.abilities.most_parts:
            raise ObjectFailure(f"a blob has more than {number - 1} parts; set a larger chunksize")
        if buffer is not None:
            task = asyncio.ensure_future(self._send_part(upload, number, buffer))
            self._sends.append(task)
        running = [task for task in self._sends if not task.done()]
        if len(running) >= self._dialect.abilities.together:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in self._sends:
            if task.done():
                task.result()  # the rest is of no use without it

    async def _begin(self) -> PartUpload:
        """Begin the object; who is cancelled meanwhile waits for it, in order to end it."""
        return await to_its_end(self._begin_parts())

    async def _begin_parts(self) -> PartUpload:
        if self.before is not None:
            await self.before()
        self.began = self.doubtful = True
        self.upload = begun = await self._dialect.begin(self.key)
        self.doubtful = begun.unsure
        return begun

    async def stop(self) -> None:
        """End what is being sent, and let go of it; without it the rest is of no use."""
        self._lost = self._lost or bool(self._sends)
        for task in self._sends:
            task.cancel()
        await asyncio.gather(*self._sends, return_exceptions=True)
        self._sends = []

    async def _send_part(self, upload: PartUpload, number: int, buffer: PartBuffer) -> ObjectPart:
        try:
            return await self._dialect.put_part(upload, number, buffer.body())
        finally:
            buffer.release()


def weakly(method: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Return a method that keeps its object not alive: what it holds goes with the last request."""
    known = weakref.WeakMethod(method)

    async def call() -> None:
        found = known()
        if found is not None:
            await found()

    return call
