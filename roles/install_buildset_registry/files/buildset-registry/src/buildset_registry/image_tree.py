# SPDX-License-Identifier: Apache-2.0
"""The tree of an image: its manifest, what that lists, their blobs, and what refers to any of them.

By it a request is held to the images that its token is for, and an overlay knows what belongs to
the images that it names. What an index lists belongs to it; whether a repository has it is another
question, which the repository answers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import MAX_MANIFEST, Manifest, stored_media_type
from buildset_registry.oci.names import Reference, Tag, cosign_tags, referrers_tag
from buildset_registry.pacing import aside, paced
from buildset_registry.store.base import RepositoryIndex, Store

#: Manifests whose parts are remembered: they never change.
_REMEMBERED = 4096
#: Manifests of one tree that are looked at.
_MOST = 20_000


class _Parts(NamedTuple):
    manifests: tuple[Digest, ...]
    blobs: frozenset[Digest]


_NOTHING = _Parts((), frozenset())


class ImageTrees:
    """The trees of the images of a store, as far as they are stored."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[Digest, _Parts] = OrderedDict()

    async def holds(
        self, indexes: Sequence[RepositoryIndex], roots: Iterable[Digest], wanted: Reference
    ) -> bool:
        """Tell whether something belongs to one of the images, or refers to what does.

        A tag does by which clients find what refers to such a manifest, whether it is there or not.
        """
        seen: dict[Digest, None] = {}
        waiting = list(roots)
        while waiting:
            asked = len(seen)
            if await self._walk(waiting, seen, wanted):
                return True
            waiting = []
            async for digest in paced(list(seen)[asked:]):
                found = await _attached(indexes, digest)
                waiting += [one for one in found if one not in seen]
            if len(seen) > _MOST:
                return False
        return False

    async def _walk(
        self, waiting: list[Digest], seen: dict[Digest, None], wanted: Reference
    ) -> bool:
        """Look at manifests and all that they list; True once something wanted is found."""
        while waiting and len(seen) <= _MOST:
            digest = waiting.pop()
            if digest in seen:
                continue
            seen[digest] = None
            if digest == wanted or wanted in _tags_of(digest):
                return True
            parts = await self._parts(digest)
            if wanted in parts.blobs:
                return True
            waiting += parts.manifests
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
        self._known[digest] = found
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found


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
