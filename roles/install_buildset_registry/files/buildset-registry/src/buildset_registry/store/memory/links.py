# SPDX-License-Identifier: Apache-2.0
"""A repository's links in memory: layers, manifests, tags, referrers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from buildset_registry.oci.descriptor import Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Tag
from buildset_registry.store.base import Blobs, LinkState, TagTarget


@dataclass(frozen=True, slots=True)
class Noted:
    """The things to be told of what is put in a repository."""

    keep: Callable[[], None]
    """Called after an addition: the repository holds something."""

    linked: Callable[[Digest], None]
    """Told of each link that is made."""


class MemoryRepository:
    """One repository's links."""

    def __init__(self, blobs: Blobs, noted: Noted, *, tracked: bool) -> None:
        self.layers = MemoryLinks(blobs, noted, tracked=tracked)
        self.manifests = MemoryManifests(blobs, noted, tracked=tracked)
        self.tags = MemoryTags(noted.keep)
        self.referrers = MemoryReferrers(noted.keep)

    async def exists(self) -> bool:
        return bool(self.layers or self.manifests or self.tags)

    @property
    def empty(self) -> bool:
        return not (self.layers or self.manifests or self.tags or self.referrers)


class MemoryLinks:
    """Targets of digests, and when each link was last used; what is added is ``noted``."""

    def __init__(self, blobs: Blobs, noted: Noted, *, tracked: bool) -> None:
        self._blobs = blobs
        self._noted = noted
        self._tracked = tracked
        self._links: dict[Digest, tuple[Digest, float]] = {}

    def __len__(self) -> int:
        return len(self._links)

    async def has(self, digest: Digest) -> bool:
        return await self.use(digest) if self._tracked else digest in self._links

    async def target(self, digest: Digest) -> Digest | None:
        link = self._links.get(digest)
        return None if link is None else link[0]

    async def add(self, digest: Digest, target: Digest | None = None) -> None:
        if not await self.use(digest):
            self._links[digest] = (target or digest, time.time())
            self._noted.keep()
        self._noted.linked(digest)

    async def use(self, digest: Digest) -> bool:
        link = self._links.get(digest)
        if link is not None:
            self._links[digest] = (link[0], time.time())
        return link is not None

    async def remove(self, digest: Digest) -> bool:
        return self._links.pop(digest, None) is not None

    async def all(self) -> list[LinkState]:
        return [LinkState(digest, used) for digest, (_target, used) in self._links.items()]

    async def expire(self, digest: Digest, used_before: float) -> bool:
        link = self._links.get(digest)
        return link is not None and link[1] < used_before and await self.remove(digest)

    async def prune(self, digest: Digest) -> bool:
        target = await self.target(digest)
        gone = target is not None and await self._blobs.size(target) is None
        return gone and await self.remove(digest)


class MemoryManifests(MemoryLinks):
    """Links to manifests, and the media types that their bytes do not tell."""

    def __init__(self, blobs: Blobs, noted: Noted, *, tracked: bool) -> None:
        super().__init__(blobs, noted, tracked=tracked)
        self._media_types: dict[Digest, str] = {}

    async def remove(self, digest: Digest) -> bool:
        self._media_types.pop(digest, None)
        return await super().remove(digest)

    async def media_type(self, digest: Digest) -> str | None:
        return self._media_types.get(digest)

    async def set_media_type(self, digest: Digest, media_type: str) -> None:
        self._media_types[digest] = media_type

    async def remains(self, digest: Digest) -> bool:
        return digest in self._links


class MemoryTags:
    """Targets by tag; ``keep`` after an addition."""

    def __init__(self, keep: Callable[[], None]) -> None:
        self._keep = keep
        self._targets: dict[Tag, TagTarget] = {}

    def __len__(self) -> int:
        return len(self._targets)

    async def get(self, tag: Tag) -> TagTarget | None:
        return self._targets.get(tag)

    async def set(self, tag: Tag, digest: Digest) -> None:
        self._targets[tag] = TagTarget(digest, time.time())
        self._keep()

    async def remove(self, tag: Tag) -> bool:
        return self._targets.pop(tag, None) is not None

    async def all(self) -> Sequence[Tag]:
        return sorted(self._targets)

    async def of(self, digest: Digest) -> Sequence[Tag]:
        return sorted(tag for tag, target in self._targets.items() if target.digest == digest)

    async def expire(self, tag: Tag, target: TagTarget) -> bool:
        return self._targets.get(tag) == target and await self.remove(tag)

    async def restore(self, tag: Tag, digest: Digest) -> None:
        if tag not in self._targets:
            await self.set(tag, digest)

    async def prune(self, before: float) -> int:
        return 0


class MemoryReferrers:
    """Referrers by subject; ``keep`` after an addition."""

    def __init__(self, keep: Callable[[], None]) -> None:
        self._keep = keep
        self._referrers: dict[Digest, set[Digest]] = {}
        self._notes: dict[tuple[Digest, Digest], Descriptor] = {}

    def __len__(self) -> int:
        return len(self._referrers) or len(self._notes)

    async def add(self, subject: Digest, digest: Digest) -> None:
        self._referrers.setdefault(subject, set()).add(digest)
        self._keep()

    async def remove(self, subject: Digest, digest: Digest) -> bool:
        self._notes.pop((subject, digest), None)
        referrers = self._referrers.get(subject, set())
        if digest not in referrers:
            return False
        referrers.discard(digest)
        if not referrers:
            del self._referrers[subject]
        return True

    async def of(self, subject: Digest) -> list[Digest]:
        return sorted(self._referrers.get(subject, ()), key=str)

    async def note(self, subject: Digest, digest: Digest, descriptor: Descriptor) -> None:
        self._notes[subject, digest] = descriptor
        self._keep()

    async def noted(self, subject: Digest, digest: Digest) -> Descriptor | None:
        return self._notes.get((subject, digest))
