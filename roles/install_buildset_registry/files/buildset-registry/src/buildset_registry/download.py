# SPDX-License-Identifier: Apache-2.0
"""One blob on its way from upstream: written once, followed by any number of clients.

Clients read from the growing file, each at its own pace, so a slow one slows nobody. The last byte
is held back until the digest is verified: no client ever holds a whole blob that is wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from buildset_registry.errors import DigestInvalid, RegistryError, UpstreamFailed, storage_error
from buildset_registry.oci.digest import Digest
from buildset_registry.store.base import Blobs, Reader, Upload

_PIECE = 256 * 1024
#: Tries to go on with a broken transfer before the clients are told.
_ATTEMPTS = 5
_PAUSE = 0.2

_log = logging.getLogger("buildset_registry.upstream")


class Remote(Protocol):
    """A transfer that upstream began: the blob's whole size in bytes, and what follows."""

    @property
    def size(self) -> int | None: ...

    @property
    def chunks(self) -> AsyncIterator[bytes]: ...


#: Ask upstream for a blob from an offset on.
Source = Callable[[int], AbstractAsyncContextManager[Remote]]


class Download:
    """Copy a blob from ``source`` into the store; ``run`` it in a task of its own."""

    def __init__(self, digest: Digest, source: Source) -> None:
        self._digest = digest
        self._source = source
        self._upload: Upload | None = None
        self._size: int | None = None
        self._started = False
        self._done = False
        self._error: RegistryError | None = None
        self._changed = asyncio.Event()

    async def run(self, blobs: Blobs, finish: Callable[[], Awaitable[None]]) -> None:
        """Transfer into ``blobs`` and verify; then ``finish`` links the blob. Errors reach the readers."""
        try:
            self._upload = upload = await blobs.ingest()
            try:
                await self._transfer(upload)
            except BaseException:
                await upload.cancel()
                raise
            await upload.commit(self._digest)
            await finish()
            self._size = upload.size
            self._done = True
        except DigestInvalid as error:
            self._error = UpstreamFailed(f"upstream's {error.message}")
            _log.error("%s", self._error.message)
        except RegistryError as error:
            self._error = error
        except OSError as error:
            self._error = storage_error(error)
            _log.error("cannot store %s: %s", self._digest, error)
        finally:
            if not self._done and self._error is None:
                self._error = UpstreamFailed(f"the transfer of {self._digest} was stopped; try again")
            self._tell()

    async def stream(self) -> BlobStream:
        """Wait until upstream answered and return what a client reads from."""
        while not (self._started or self._done or self._error):
            await self._changed.wait()
        if self._error is not None:
            raise self._error
        if self._size is None:
            await self.complete()
        assert self._size is not None
        return BlobStream(self._size, self)

    async def complete(self) -> None:
        """Wait until the blob is stored, or raise what prevented it."""
        while not (self._done or self._error):
            await self._changed.wait()
        if self._error is not None:
            raise self._error

    def reader(self) -> Reader:
        assert self._upload is not None, "stream() waits until there is something to read"
        return self._upload.reader()

    async def available(self, offset: int) -> int:
        """Wait for content after ``offset`` and return up to where it may be read."""
        assert self._upload is not None, "stream() waits until there is something to read"
        while True:
            if self._error is not None:
                raise self._error
            end = self._upload.size if self._done else min(self._upload.size, (self._size or 0) - 1)
            if end > offset or self._done:
                return end
            await self._changed.wait()

    async def _transfer(self, upload: Upload) -> None:
        for attempt in range(_ATTEMPTS):
            before = upload.size
            try:
                async with self._source(before) as remote:
                    self._size = remote.size
                    self._started = True
                    self._tell()
                    await upload.append(self._tracked(remote.chunks))
                if self._size is None or upload.size >= self._size:
                    return
                raise UpstreamFailed(f"upstream ended after {upload.size} of {self._size} bytes")
            except UpstreamFailed as error:
                if attempt + 1 == _ATTEMPTS or not self._started:
                    raise
                _log.warning("%s at byte %d: %s; going on", self._digest, upload.size, error.message)
                await asyncio.sleep(_PAUSE * 2**attempt)

    async def _tracked(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Tell the readers after each chunk; the code after ``yield`` runs once it is written."""
        async for chunk in chunks:
            yield chunk
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class BlobStream:
    """A blob of ``size`` bytes that can be read from while it arrives."""

    def __init__(self, size: int, download: Download) -> None:
        self.size = size
        self._download = download

    async def complete(self) -> None:
        """Wait until the blob is stored."""
        await self._download.complete()

    async def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from ``start`` up to ``end``, as they come."""
        reader = self._download.reader()
        try:
            while start < end:
                ready = min(await self._download.available(start), end)
                while start < ready:
                    piece = await reader.read(start, min(_PIECE, ready - start))
                    start += len(piece)
                    yield piece
        finally:
            reader.close()
