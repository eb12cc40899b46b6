# SPDX-License-Identifier: Apache-2.0
"""A repository's links in memory: layers, manifests, tags, referrers."""

from __future__ import annotations

import time
from collections.abc import Sequence

from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Tag
from buildset_registry.store.base import Blobs, LinkState, TagTarget


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
