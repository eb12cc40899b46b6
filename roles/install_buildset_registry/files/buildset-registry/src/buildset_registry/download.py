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
from buildset_registry.store.base import Blobs, Upload

_PIECE = 256 * 1024
#: Tries to go on with a broken transfer, none of which got a byte, before the clients are told.
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
        self._begun: asyncio.Future[tuple[Upload, int]] = asyncio.Future()
        self._ended: asyncio.Future[None] = asyncio.Future()
        self._changed = asyncio.Event()

    async def run(self, blobs: Blobs, finish: Callable[[], Awaitable[None]]) -> None:
        """Transfer into ``blobs`` and verify; then ``finish`` links the blob.

        Errors reach the readers; nobody has to wait for the task.
        """
        error: RegistryError = UpstreamFailed(
            f"the transfer of {self._digest} was stopped; try again"
        )
        try:
            upload = await blobs.ingest()
            try:
                await self._transfer(upload)
            except BaseException:
                await upload.cancel()
                raise
            await upload.commit(self._digest)
            await finish()
            self._begin(upload, upload.size)
            self._ended.set_result(None)
        except DigestInvalid as problem:
            error = UpstreamFailed(f"upstream's {problem.message}")
        except RegistryError as problem:
            error = problem
        except OSError as problem:
            error = storage_error(problem)
        finally:
            if not self._ended.done():
                _log.warning("%s: %s", self._digest, error.message)
                self._fail(error)
            self._tell()

    async def stream(self) -> BlobStream:
        """Wait until upstream answered and return what a client reads from."""
        upload, size = await asyncio.shield(self._begun)
        return BlobStream(size, upload, self)

    async def complete(self) -> None:
        """Wait until the blob is stored, or raise what prevented it."""
        await asyncio.shield(self._ended)

    async def available(self, offset: int, upload: Upload, size: int) -> int:
        """Wait for content after ``offset`` and return up to where it may be read."""
        while not self._ended.done():
            end = min(upload.size, size - 1)
            if end > offset:
                return end
            await self._changed.wait()
        self._ended.result()
        return size

    def _begin(self, upload: Upload, size: int | None) -> None:
        """Let clients read; where upstream does not tell the size, they wait for the end."""
        if size is not None and not self._begun.done():
            self._begun.set_result((upload, size))

    def _fail(self, error: RegistryError) -> None:
        for future in (self._begun, self._ended):
            if not future.done():
                future.set_exception(error)
                future.exception()  # seen: a client may be there to hear of it, or not

    async def _transfer(self, upload: Upload) -> None:
        failures = 0
        while True:
            before = upload.size
            try:
                await self._receive(upload)
                return
            except UpstreamFailed as error:
                failures = 1 if upload.size > before else failures + 1
                if failures == _ATTEMPTS or not self._begun.done():
                    raise
                _log.warning(
                    "%s at byte %d: %s; going on", self._digest, upload.size, error.message
                )
                await asyncio.sleep(_PAUSE * 2**failures)

    async def _receive(self, upload: Upload) -> None:
        """Take what upstream sends from where the upload stands."""
        async with self._source(upload.size) as remote:
            self._begin(upload, remote.size)
            await upload.append(self._tracked(remote.chunks))
            if remote.size is not None and upload.size < remote.size:
                raise UpstreamFailed(f"upstream ended after {upload.size} of {remote.size} bytes")

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

    def __init__(self, size: int, upload: Upload, download: Download) -> None:
        self.size = size
        self._upload = upload
        self._download = download

    async def complete(self) -> None:
        """Wait until the blob is stored."""
        await self._download.complete()

    async def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from ``start`` up to ``end``, as they come."""
        reader = self._upload.reader()
        try:
            while start < end:
                ready = await self._download.available(start, self._upload, self.size)
                while start < min(ready, end):
                    piece = await reader.read(start, min(_PIECE, min(ready, end) - start))
                    start += len(piece)
                    yield piece
        finally:
            reader.close()
