# SPDX-License-Identifier: Apache-2.0
"""A blob on its way from upstream: written once, followed by any number of clients.

Clients read from the growing file, each at its own pace, so a slow one slows nobody. The last byte
is held back until the digest is verified: no client ever holds a whole blob that is wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from buildset_registry.errors import (
    DigestInvalid,
    RegistryError,
    UpstreamBusy,
    UpstreamFailed,
    storage_error,
)
from buildset_registry.oci.digest import Digest
from buildset_registry.store.base import Reader, Upload, Uploads
from buildset_registry.upstream.counters import UpstreamCounters

_log = logging.getLogger("buildset_registry.upstream")


@dataclass(frozen=True, slots=True)
class Pace:
    """The size of the steps of a download, and how often it goes on after a failure."""

    piece: int = 32 * 1024
    """Bytes that a client gets at once where many are served. Several pieces of each are under way:
    150 downloads at once took 106 to 118 MiB of memory with 32 KiB, 115 to 144 with 64, and none
    was served sooner."""

    largest: int = 256 * 1024
    """Bytes where few are: one client had 512 MiB after 1.14 s, with 32 KiB after 1.39."""

    together: int = 4 * 1024 * 1024
    """Bytes of the pieces of all clients."""

    attempts: int = 5
    """Tries to go on with a broken transfer, none of which got a byte, before the clients are
    told."""

    pause: float = 0.2
    """Seconds until the next try, doubled for each failure in a row."""


class Remote(Protocol):
    """A transfer that upstream began: the blob's whole size in bytes, and what follows."""

    @property
    def size(self) -> int | None:
        """Return the whole size in bytes where upstream tells it."""

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        """Return what follows."""

    @property
    def registry(self) -> str:
        """Return the registry that sends it, if it is not the one of the repository."""


#: Ask upstream for a blob from an offset on; what is also given is told the length of each chunk
#: when the next one is asked for, which is when it is written.
Source = Callable[[int, Callable[[int], None]], AbstractAsyncContextManager[Remote]]


class Download:
    """A copy of a blob from ``source`` into the store; ``run`` it in a task of its own.

    ``size`` is the blob's size in bytes, once upstream told it; the rest is given.
    """

    def __init__(
        self,
        digest: Digest,
        source: Source,
        upstream: str,
        counters: UpstreamCounters,
        pace: Pace,
    ) -> None:
        self._digest = digest
        self._source = source
        self._upstream = upstream
        self.counters = counters
        self.pace = pace
        self.size: int | None = None
        self.received = 0
        self._begun: asyncio.Future[tuple[Upload, int]] = asyncio.Future()
        self._ended: asyncio.Future[None] = asyncio.Future()
        self._changed = asyncio.Event()
        self._reader: Reader | None = None
        self._readers = 0

    async def run(
        self, uploads: Uploads, link: Callable[[], Awaitable[None]], forget: Callable[[], object]
    ) -> None:
        """Transfer into ``uploads``, verify, ``link`` the blob, and ``forget`` the task at last.

        Errors reach the readers; nobody has to wait for the task.
        """
        error: RegistryError | None = None
        self.counters.misses["blob"] += 1
        self.counters.downloads += 1
        try:
            upload = await uploads.ingest(self._digest)
            # Open all the while: commit moves the file, and clients may come in that moment.
            with self.reading(upload):
                await self._fill(upload)
                await link()
            self._begin(upload, upload.size)
            self._ended.set_result(None)
        except DigestInvalid:
            error = self._failure("what it sends has another digest")
        except RegistryError as problem:
            error = problem
        except OSError as problem:
            error = storage_error(problem)
        finally:
            if not self._ended.done():
                self._fail(error or self._failure("its transfer was stopped; try again"))
            self._tell()
            self.counters.downloads -= 1
            forget()

    async def stream(self) -> DownloadStream:
        """Wait until upstream answered and return what a client reads from."""
        upload, size = await asyncio.shield(self._begun)
        if self._ended.done():
            self._ended.result()
        return DownloadStream(size, upload, self)

    async def complete(self) -> None:
        """Wait until the blob is stored, or raise what prevented it."""
        await asyncio.shield(self._ended)

    async def available(self, offset: int, upload: Upload, size: int) -> int:
        """Wait for content after ``offset`` and return up to where it may be read.

        A small blob is there as a whole or not at all: its last byte is waited for anyway, and so
        a client is told what is wrong with it.
        """
        while not self._ended.done():
            end = min(upload.size, size - 1)
            if end > offset and size > self.pace.piece:
                return end
            await self._changed.wait()
        self._ended.result()
        return size

    @contextmanager
    def reading(self, upload: Upload) -> Iterator[Reader]:
        """Lend the one open file that all clients read from; whoever is last closes it."""
        reader = self._reader = self._reader or upload.reader()
        self._readers += 1
        try:
            yield reader
        finally:
            self._readers -= 1
            if not self._readers:
                self._reader = None
                reader.close()

    def _begin(self, upload: Upload, size: int | None) -> None:
        """Let clients read; where upstream does not tell the size, they wait for the end."""
        if size is not None and not self._begun.done():
            self.size = size
            self._begun.set_result((upload, size))

    def _fail(self, error: RegistryError) -> None:
        _log.warning("%s: %s", self._digest, error.message)
        for future in (self._begun, self._ended):
            if not future.done():
                future.set_exception(error)
                future.exception()  # seen: a client may be there to hear of it, or not

    async def _fill(self, upload: Upload) -> None:
        """Make the upload a verified blob, or cancel it."""
        try:
            await self._receive(upload)
            if self.size not in (None, upload.size):
                raise self._failure(f"it promised {self.size} bytes and sent {upload.size}")
            await upload.commit(self._digest)
        except BaseException:
            await upload.cancel()
            raise

    async def _receive(self, upload: Upload) -> None:
        """Take what upstream sends; of a transfer that breaks, the rest by another one."""
        failures = 0
        while True:
            before = upload.size
            try:
                async with self._source(before, self._tell) as remote:
                    self._upstream = remote.registry or self._upstream
                    self._begin(upload, remote.size)
                    await upload.append(remote.chunks)
                if remote.size is None or upload.size >= remote.size:
                    return
                raise self._failure(f"it ended after {upload.size} of {remote.size} bytes")
            except (UpstreamFailed, UpstreamBusy) as error:
                failures = 1 if upload.size > before else failures + 1
                nothing_yet = not upload.size and self.size is None
                if failures == self.pace.attempts or nothing_yet:
                    raise
                _log.warning(
                    "%s at byte %d: %s; going on", self._digest, upload.size, error.message
                )
                await asyncio.sleep(self.pace.pause * 2**failures)

    def _failure(self, reason: str) -> UpstreamFailed:
        return UpstreamFailed(f"upstream {self._upstream}: {self._digest}: {reason}")

    def _tell(self, length: int = 0) -> None:
        """Tell the readers after each chunk, of so many bytes, and at the end."""
        self.received += length
        self.counters.received += length
        self.counters.received_from[self._upstream] += length
        self._changed.set()
        self._changed = asyncio.Event()


class DownloadStream:
    """A blob of ``size`` bytes that can be read from while it arrives."""

    def __init__(self, size: int, upload: Upload, download: Download) -> None:
        self.size = size
        self._upload = upload
        self._download = download

    async def complete(self) -> None:
        """Wait until the blob is stored."""
        await self._download.complete()

    async def chunks(self, start: int, end: int) -> AsyncGenerator[bytes]:
        """Yield the bytes from ``start`` up to ``end``, as they come."""
        counters, pace = self._download.counters, self._download.pace
        counters.served += 1
        try:
            while start < end:
                ready = min(await self._download.available(start, self._upload, self.size), end)
                most = max(pace.piece, min(pace.largest, pace.together // counters.served))
                with self._download.reading(self._upload) as reader:
                    while start < ready:
                        piece = await reader.read(start, min(most, ready - start))
                        if not piece:
                            raise EOFError(f"a blob ended at {start} of {self.size} bytes")
                        start += len(piece)
                        yield piece
        finally:
            counters.served -= 1
