# SPDX-License-Identifier: Apache-2.0
"""The store in memory: the contract in its shortest form, for tests and for reading.

A blob is handed out as a file, as every store does; here an anonymous one in memory.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from buildset_registry.errors import BlobUploadUnknown, DigestInvalid
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag, UploadId
from buildset_registry.store.base import BlobFile, TagTarget


class MemoryStore:
    """Everything in dictionaries."""

    def __init__(self) -> None:
        self.blobs = MemoryBlobs()
        self.uploads = MemoryUploads(self.blobs)
        self._pushed: dict[RepositoryName, MemoryRepository] = {}
        self._cached: dict[RepositoryName, MemoryRepository] = {}

    def pushed(self, name: RepositoryName) -> MemoryRepository:
        return self._pushed.setdefault(name, MemoryRepository())

    def cached(self, name: RepositoryName) -> MemoryRepository:
        return self._cached.setdefault(name, MemoryRepository())

    async def repositories(self) -> Sequence[RepositoryName]:
        both = [*self._pushed.items(), *self._cached.items()]
        return sorted({name for name, index in both if await index.exists()})

    def close(self) -> None:
        """Forget everything."""
        self.blobs.close()


class MemoryBlobs:
    """Anonymous files in memory, by digest."""

    def __init__(self) -> None:
        self._files: dict[Digest, int] = {}

    async def size(self, digest: Digest) -> int | None:
        descriptor = self._files.get(digest)
        return None if descriptor is None else os.fstat(descriptor).st_size

    async def open(self, digest: Digest) -> BlobFile | None:
        size = await self.size(digest)
        if size is None:
            return None
        return BlobFile(Path(f"/proc/self/fd/{self._files[digest]}"), size)

    async def read(self, digest: Digest) -> bytes | None:
        size = await self.size(digest)
        return None if size is None else os.pread(self._files[digest], size, 0)

    async def put(self, digest: Digest, content: bytes) -> None:
        self.keep(digest, content)

    async def ingest(self) -> MemoryUpload:
        return MemoryUpload(self)

    def keep(self, digest: Digest, content: bytes) -> None:
        """Store ``content`` unless it is there."""
        if digest not in self._files:
            descriptor = os.memfd_create(digest.hex[:12])
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(content)
            self._files[digest] = descriptor

    def close(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()


class MemoryUploads:
    """Sessions by repository and identifier."""

    def __init__(self, blobs: MemoryBlobs) -> None:
        self._blobs = blobs
        self._sessions: dict[tuple[RepositoryName, UploadId], MemoryUpload] = {}

    async def create(self, name: RepositoryName) -> MemoryUpload:
        upload = MemoryUpload(self._blobs)
        self._sessions[name, upload.id] = upload
        return upload

    async def resume(self, name: RepositoryName, upload_id: UploadId) -> MemoryUpload:
        upload = self._sessions.get((name, upload_id))
        if upload is None or upload.ended:
            self._sessions.pop((name, upload_id), None)
            raise BlobUploadUnknown
        return upload


class MemoryUpload:
    """Content on its way in."""

    def __init__(self, blobs: MemoryBlobs) -> None:
        self.id = UploadId(uuid.uuid4())
        self.size = 0
        self.ended = False
        self._blobs = blobs
        self._content = bytearray()

    async def append(self, chunks: AsyncIterator[bytes]) -> None:
        async for chunk in chunks:
            self._content += chunk
            self.size += len(chunk)

    async def commit(self, digest: Digest) -> None:
        self.ended = True
        content = bytes(self._content)
        actual = Digest.of(content, digest.algorithm)
        if actual != digest:
            raise DigestInvalid(f"content is {actual}, not {digest}; push it again")
        self._blobs.keep(digest, content)

    async def cancel(self) -> None:
        self.ended = True

    def reader(self) -> MemoryReader:
        return MemoryReader(self._content)


class MemoryReader:
    """Read content that may still be growing."""

    def __init__(self, content: bytearray) -> None:
        self._content = content

    async def read(self, offset: int, length: int) -> bytes:
        return bytes(self._content[offset : offset + length])

    def close(self) -> None:
        self._content = bytearray()


class MemoryLinks:
    """A set of digests."""

    def __init__(self) -> None:
        self._digests: set[Digest] = set()

    @property
    def empty(self) -> bool:
        return not self._digests

    async def has(self, digest: Digest) -> bool:
        return digest in self._digests

    async def target(self, digest: Digest) -> Digest | None:
        return digest if digest in self._digests else None

    async def add(self, digest: Digest) -> None:
        self._digests.add(digest)

    async def remove(self, digest: Digest) -> bool:
        present = digest in self._digests
        self._digests.discard(digest)
        return present


class MemoryManifests(MemoryLinks):
    """Links to manifests, and the media types that their bytes do not tell."""

    def __init__(self) -> None:
        super().__init__()
        self._media_types: dict[Digest, str] = {}

    async def media_type(self, digest: Digest) -> str | None:
        return self._media_types.get(digest)

    async def set_media_type(self, digest: Digest, media_type: str) -> None:
        self._media_types[digest] = media_type


class MemoryTags:
    """Targets by tag."""

    def __init__(self) -> None:
        self._targets: dict[Tag, TagTarget] = {}

    async def get(self, tag: Tag) -> TagTarget | None:
        return self._targets.get(tag)

    async def set(self, tag: Tag, digest: Digest) -> None:
        self._targets[tag] = TagTarget(digest, time.time())

    async def remove(self, tag: Tag) -> bool:
        return self._targets.pop(tag, None) is not None

    async def all(self) -> Sequence[Tag]:
        return sorted(self._targets)


class MemoryReferrers:
    """Pairs of subject and referrer."""

    def __init__(self) -> None:
        self._pairs: set[tuple[Digest, Digest]] = set()

    async def add(self, subject: Digest, digest: Digest) -> None:
        self._pairs.add((subject, digest))

    async def remove(self, subject: Digest, digest: Digest) -> bool:
        present = (subject, digest) in self._pairs
        self._pairs.discard((subject, digest))
        return present

    async def of(self, subject: Digest) -> list[Digest]:
        return sorted((one for about, one in self._pairs if about == subject), key=str)


class MemoryRepository:
    """One repository's links."""

    def __init__(self) -> None:
        self.layers = MemoryLinks()
        self.manifests = MemoryManifests()
        self.tags = MemoryTags()
        self.referrers = MemoryReferrers()

    async def exists(self) -> bool:
        return not (self.layers.empty and self.manifests.empty)
