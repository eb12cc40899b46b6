# SPDX-License-Identifier: Apache-2.0
"""The store in memory: the contract in its shortest form, for tests and for reading.

A blob is handed out as a file, as every store does; here an anonymous one in memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from buildset_registry.errors import BlobUploadUnknown, DigestInvalid
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag, UploadId
from buildset_registry.store.base import (
    BlobFile,
    Blobs,
    BlobState,
    LinkState,
    TagTarget,
    UploadState,
)


class MemoryStore:
    """Everything in dictionaries."""

    def __init__(self) -> None:
        self.blobs = MemoryBlobs()
        self.uploads = MemoryUploads(self.blobs)
        self.space = MemorySpace()
        self._pushed: dict[RepositoryName, MemoryRepository] = {}
        self._cached: dict[RepositoryName, MemoryRepository] = {}

    def pushed(self, name: RepositoryName) -> MemoryRepository:
        return self._pushed.setdefault(name, MemoryRepository(self.blobs, tracked=False))

    def cached(self, name: RepositoryName) -> MemoryRepository:
        return self._cached.setdefault(name, MemoryRepository(self.blobs, tracked=True))

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
        self._wanted: dict[Digest, float] = {}
        self._changed: dict[Digest, float] = {}
        self._swept: list[int] = []

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
        self.store(digest, content)

    async def keep(self, digest: Digest) -> int | None:
        if digest in self._files:
            self._wanted[digest] = self._changed[digest] = time.time()
        return await self.size(digest)

    async def ingest(self) -> MemoryUpload:
        return MemoryUpload(self, wanted=False)

    async def walk(self) -> AsyncIterator[list[BlobState]]:
        yield [
            BlobState(one, os.fstat(file).st_size, self._wanted[one], self._changed[one])
            for one, file in self._files.items()
        ]

    async def sweep(self, digest: Digest, wanted_before: float, changed_before: float) -> bool:
        if (
            digest not in self._files
            or self._wanted[digest] >= wanted_before
            or self._changed[digest] >= changed_before
        ):
            return False
        # Not closed: a client may be reading it by the number of the descriptor.
        os.ftruncate(self._files[digest], 0)
        self._swept.append(self._files.pop(digest))
        return True

    def store(self, digest: Digest, content: bytes, *, wanted: bool = True) -> None:
        """Store ``content`` unless it is there."""
        if digest not in self._files:
            descriptor = os.memfd_create(digest.hex[:12])
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(content)
            self._files[digest] = descriptor
            self._wanted[digest] = 0
        self._changed[digest] = time.time()
        if wanted:
            self._wanted[digest] = self._changed[digest]

    def close(self) -> None:
        for descriptor in (*self._files.values(), *self._swept):
            os.close(descriptor)
        self._files.clear()
        self._swept.clear()


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

    async def all(self) -> list[UploadState]:
        return [
            UploadState(name, upload_id, upload.size, upload.changed)
            for (name, upload_id), upload in self._sessions.items()
            if not upload.ended
        ]

    async def expire(self, state: UploadState) -> bool:
        upload = self._sessions.get((state.name, state.id))
        if upload is None or upload.ended or upload.busy or upload.changed > state.changed:
            return False
        del self._sessions[state.name, state.id]
        return True


class MemoryUpload:
    """Content on its way in."""

    def __init__(self, blobs: MemoryBlobs, *, wanted: bool = True) -> None:
        self.id = UploadId.new()
        self.size = 0
        self.changed = time.time()
        self.busy = False
        self.ended = False
        self._wanted = wanted
        self._blobs = blobs
        self._content = bytearray()

    async def append(self, chunks: AsyncIterator[bytes], *, last: bool = False) -> None:
        self.busy = True
        try:
            async for chunk in chunks:
                self._content += chunk
                self.size += len(chunk)
        finally:
            self.busy = False
            self.changed = time.time()

    async def commit(self, digest: Digest) -> None:
        self.ended = True
        content = bytes(self._content)
        actual = Digest.of(content, digest.algorithm)
        if actual != digest:
            raise DigestInvalid(f"content is {actual}, not {digest}; push it again")
        self._blobs.store(digest, content, wanted=self._wanted)

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
    """What digests are stored as, and when each link was last used."""

    def __init__(self, blobs: Blobs, *, tracked: bool) -> None:
        self._blobs = blobs
        self._tracked = tracked
        self._targets: dict[Digest, Digest] = {}
        self._used: dict[Digest, float] = {}

    @property
    def empty(self) -> bool:
        return not self._targets

    async def has(self, digest: Digest) -> bool:
        return await self.use(digest) if self._tracked else digest in self._targets

    async def target(self, digest: Digest) -> Digest | None:
        return self._targets.get(digest)

    async def add(self, digest: Digest, target: Digest | None = None) -> None:
        self._targets.setdefault(digest, target or digest)
        self._used[digest] = time.time()

    async def use(self, digest: Digest) -> bool:
        if digest in self._targets:
            self._used[digest] = time.time()
        return digest in self._targets

    async def remove(self, digest: Digest) -> bool:
        self._used.pop(digest, None)
        return self._targets.pop(digest, None) is not None

    async def all(self) -> list[LinkState]:
        return [LinkState(digest, used) for digest, used in self._used.items()]

    async def expire(self, digest: Digest, used_before: float) -> bool:
        if self._used.get(digest, used_before) >= used_before:
            return False
        return await self.remove(digest)

    async def prune(self, digest: Digest) -> bool:
        target = self._targets.get(digest)
        if target is None or await self._blobs.size(target) is not None:
            return False
        return await self.remove(digest)


class MemoryManifests(MemoryLinks):
    """Links to manifests, and the media types that their bytes do not tell."""

    def __init__(self, blobs: Blobs, *, tracked: bool) -> None:
        super().__init__(blobs, tracked=tracked)
        self._media_types: dict[Digest, str] = {}

    async def media_type(self, digest: Digest) -> str | None:
        return self._media_types.get(digest)

    async def set_media_type(self, digest: Digest, media_type: str) -> None:
        self._media_types[digest] = media_type


class MemoryTags:
    """Targets by tag."""

    def __init__(self) -> None:
        self._targets: dict[Tag, TagTarget] = {}

    @property
    def empty(self) -> bool:
        return not self._targets

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

    def __init__(self, blobs: Blobs, *, tracked: bool) -> None:
        self.layers = MemoryLinks(blobs, tracked=tracked)
        self.manifests = MemoryManifests(blobs, tracked=tracked)
        self.tags = MemoryTags()
        self.referrers = MemoryReferrers()

    async def exists(self) -> bool:
        return not (self.layers.empty and self.manifests.empty and self.tags.empty)


class MemorySpace:
    """A storage in memory has no disk, and is always ready."""

    def problem(self) -> str | None:
        return None

    def free(self) -> tuple[int, int] | None:
        return None

    def used(self) -> int:
        return 0
