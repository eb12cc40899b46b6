# SPDX-License-Identifier: Apache-2.0
"""Uploads in memory: nothing of one is left when it has ended."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

from buildset_registry.errors import BlobUploadInvalid, BlobUploadUnknown, DigestInvalid
from buildset_registry.oci.digest import Digest, hasher
from buildset_registry.oci.names import RepositoryName, UploadId
from buildset_registry.store.base import UploadState
from buildset_registry.store.memory.blobs import Content, MemoryBlobs


class MemoryUploads:
    """Sessions by repository and identifier, from their beginning to their end."""

    def __init__(self, blobs: MemoryBlobs) -> None:
        self._blobs = blobs
        self._sessions: dict[tuple[RepositoryName, UploadId], MemoryUpload] = {}

    async def create(self, name: RepositoryName) -> MemoryUpload:
        key = (name, UploadId.new())

        def end() -> None:
            del self._sessions[key]

        upload = self._sessions[key] = MemoryUpload(key[1], self._blobs, end, promised=True)
        return upload

    async def resume(self, name: RepositoryName, upload_id: UploadId) -> MemoryUpload:
        upload = self._sessions.get((name, upload_id))
        if upload is None:
            raise BlobUploadUnknown
        return upload

    async def ingest(self, digest: Digest) -> MemoryUpload:
        return MemoryUpload(UploadId.new(), self._blobs, lambda: None, promised=False)

    async def all(self, *, tidy: bool = False) -> list[UploadState]:
        return [
            UploadState(name, upload_id, upload.size, upload.changed)
            for (name, upload_id), upload in self._sessions.items()
        ]

    async def expire(self, state: UploadState) -> bool:
        upload = self._sessions.get((state.name, state.id))
        if upload is None or upload.busy or upload.changed > state.changed:
            return False
        await upload.cancel()
        return True


class MemoryUpload:
    """Content on its way in; ``end`` is called once, when it has become a blob or is forgotten."""

    def __init__(
        self, upload_id: UploadId, blobs: MemoryBlobs, end: Callable[[], None], *, promised: bool
    ) -> None:
        self.id = upload_id
        self.size = 0
        self.changed = time.time()
        self.busy = False
        self._blobs = blobs
        self._end = end
        self._promised = promised
        self._ended = False
        self._content = blobs.content()
        self._sha256 = hasher("sha256")

    async def append(self, chunks: AsyncIterator[bytes], *, last: Digest | None = None) -> None:
        with self._exclusive():
            async for chunk in chunks:
                self._content.append(chunk)
                self._sha256.update(chunk)
                self.size = self._content.size

    async def commit(self, digest: Digest) -> None:
        with self._exclusive():
            actual = self._digest(digest.algorithm)
            if actual == digest.hex:
                stored = self._blobs.add(digest, self._content, promised=self._promised)
                self._become(stored)
                return
        await self.cancel()
        raise DigestInvalid(f"content is {digest.algorithm}:{actual}, not {digest}; push it again")

    async def cancel(self) -> None:
        if not self._ended:
            with self._exclusive():
                self._become(Content())

    def reader(self) -> MemoryReader:
        return MemoryReader(self._content)

    def _digest(self, algorithm: str) -> str:
        """Return the digest of what arrived, in hexadecimal."""
        if algorithm == "sha256":
            return self._sha256.hexdigest()
        return Digest.of(self._content.whole(), algorithm).hex

    def _become(self, content: Content) -> None:
        """End, with the content that readers see from now on."""
        self._content = content
        self._ended = True
        self._end()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Let one request use it, as long as it has not ended."""
        if self.busy:
            raise BlobUploadInvalid("another request is writing to this upload; wait for it to end")
        if self._ended:
            raise BlobUploadUnknown
        self.busy = True
        try:
            yield
        finally:
            self.busy = False
            self.changed = time.time()


class MemoryReader:
    """Read content that may still be growing."""

    def __init__(self, content: Content) -> None:
        self._content = content

    async def read(self, offset: int, length: int) -> bytes:
        return self._content.read(offset, offset + length)

    def close(self) -> None:
        self._content = Content()
