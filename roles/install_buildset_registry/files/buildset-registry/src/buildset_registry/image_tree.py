# SPDX-License-Identifier: Apache-2.0
"""The tree of an image: its manifest, what that lists, their blobs, and what refers to any of them.

By it a request is held to the images that its token is for, and an overlay knows what belongs to
the images that it names. What an index lists belongs to it; whether a repository has it is another
question, which the repository answers.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import MAX_MANIFEST, Manifest, stored_media_type
from buildset_registry.oci.names import Reference, Tag, cosign_tags, referrers_tag
from buildset_registry.pacing import STEPS, aside, paced
from buildset_registry.store.base import RepositoryIndex, Store

#: Manifests whose parts are remembered, since they never change, and parts of all of them: whoever
#: pushes decides how many one has.
_REMEMBERED, _REMEMBERED_PARTS = 4096, 200_000
#: Manifests of one tree that are looked at, what they list with all that is there twice, and those
#: of which it is asked what refers to them: that is several requests to the store for each.
_MOST, _MOST_LISTED, _MOST_ASKED = 20_000, 100_000, 2000


class _Parts(NamedTuple):
    manifests: tuple[Digest, ...]
    blobs: frozenset[Digest]

    @property
    def number(self) -> int:
        """How many there are."""
        return len(self.manifests) + len(self.blobs)


@dataclass(slots=True)
class _Walk:
    """The manifests of a tree that were found, in their order, and how much they list."""

    seen: dict[Digest, None] = field(default_factory=dict)
    listed: int = 0

    @property
    def enough(self) -> bool:
        """Tell whether nothing more is looked at."""
        return len(self.seen) > _MOST or self.listed > _MOST_LISTED

    def add(self, found: Iterable[Digest]) -> list[Digest]:
        """Take what was found, and return what is new."""
        fresh = [one for one in dict.fromkeys(found) if one not in self.seen]
        self.seen.update(dict.fromkeys(fresh))
        return fresh


_NOTHING = _Parts((), frozenset())


class ImageTrees:
    """The trees of the images of a store, as far as they are stored."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[Digest, _Parts] = OrderedDict()
        self._size = 0

    async def holds(
        self, indexes: Sequence[RepositoryIndex], roots: Iterable[Digest], wanted: Reference
    ) -> bool:
        """Tell whether something belongs to one of the images, or refers to what does.

        A tag does by which clients find what refers to such a manifest, whether it is there or not.
        """
        walk, asked = _Walk(), 0
        waiting = walk.add(roots)
        while waiting:
            if await self._walk(waiting, walk, wanted):
                return True
            waiting = []
            async for digest in paced(list(walk.seen)[asked:_MOST_ASKED]):
                waiting += walk.add(await _attached(indexes, digest))
            asked = len(walk.seen) - len(waiting)
            if walk.enough:
                return False
        return False

    async def _walk(self, waiting: list[Digest], walk: _Walk, wanted: Reference) -> bool:
        """Look at manifests and all that they list; True once something wanted is found."""
        while waiting:
            if len(waiting) % STEPS == 0:
                await asyncio.sleep(0)
            digest = waiting.pop()
            if digest == wanted or wanted in _tags_of(digest):
                return True
            if walk.enough:
                continue
            parts = await self._parts(digest)
            if wanted in parts.blobs:
                return True
            walk.listed += len(parts.manifests)
            waiting += walk.add(parts.manifests)
        return False

    async def _parts(self, digest: Digest) -> _Parts:
        found = self._known.get(digest)
        if found is not None:
            return found
        size = await self._store.blobs.size(digest)
        if size is None or size > MAX_MANIFEST:  # buildkit's caches list layers as manifests
            return _NOTHING
        raw = await self._store.blobs.read(digest)
        if raw is None:
            return _NOTHING
        found = await aside(len(raw), partial(_read, raw, digest))
        self._remember(digest, found)
        return found

    def _remember(self, digest: Digest, parts: _Parts) -> None:
        if digest in self._known:  # another request has read it meanwhile
            return
        self._known[digest] = parts
        self._size += parts.number
        while len(self._known) > _REMEMBERED or self._size > _REMEMBERED_PARTS:
            _oldest, gone = self._known.popitem(last=False)
            self._size -= gone.number


def _read(raw: bytes, digest: Digest) -> _Parts:
    manifest = Manifest.stored(raw, stored_media_type(raw), digest.algorithm)
    blobs = frozenset(one.digest for one in manifest.blobs)
    return _Parts(tuple(one.digest for one in manifest.manifests), blobs)


def _tags_of(digest: Digest) -> list[Tag]:
    """Return the tags by which clients find what refers to a manifest."""
    return [referrers_tag(digest), *cosign_tags(digest)]


async def _attached(indexes: Sequence[RepositoryIndex], digest: Digest) -> list[Digest]:
    """Return what refers to a manifest, by the API and by tags."""
    found = []
    for index in indexes:
        found += await index.referrers.of(digest)
        for tag in _tags_of(digest):
            target = await index.tags.get(tag)
            if target is not None:
                found.append(target.digest)
    return found
