# SPDX-License-Identifier: Apache-2.0
"""The tree of an image: its manifest, what that lists, their blobs, and what refers to any of them.

By it a request is held to the images that its token is for, and an overlay knows what belongs to
the images that it names. What an index lists belongs to it; whether a repository has it is another
question, which the repository answers.

Whoever pushes decides how large a tree is, and who asks for what is not in it has all of it looked
at. So a look is quick or shared: what many ask of one large tree at once is one walk, and few of
these are under way.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from buildset_registry.errors import TooManyRequests
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import MAX_MANIFEST, Manifest, stored_media_type
from buildset_registry.oci.names import Reference, Tag, cosign_tags, referrers_tag
from buildset_registry.pacing import aside, spread
from buildset_registry.store.base import RepositoryIndex, Store

#: Manifests whose parts are remembered, since they never change, and parts of all of them: whoever
#: pushes decides how many one has.
_REMEMBERED, _REMEMBERED_PARTS = 4096, 200_000
#: Manifests of one tree that are looked at, what they list with all that is there twice, and those
#: of which it is asked what refers to them: that is several requests to the store for each.
_MOST, _MOST_LISTED, _MOST_ASKED = 20_000, 100_000, 2000
#: Looks into the store after which a walk is a long one; long ones that are under way at once, and
#: trees that wait for one.
_QUICK, _LONG_AT_ONCE, _MOST_WAITING = 200, 2, 64
#: Looks after which other requests have their turn.
_STEPS = 5


class _Parts(NamedTuple):
    manifests: tuple[Digest, ...]
    blobs: frozenset[Digest]

    @property
    def number(self) -> int:
        """How many there are."""
        return len(self.manifests) + len(self.blobs)


@dataclass(slots=True)
class _Walk:
    """The manifests of a tree that were found, in their order, and what is looked for in it."""

    wanted: set[Reference]
    """What is not found yet."""

    most_looks: int | None = None
    found: set[Reference] = field(default_factory=set)
    seen: dict[Digest, None] = field(default_factory=dict)
    listed: int = 0
    """How much they list."""

    looks: int = 0
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def cut(self) -> bool:
        """Tell whether it ended before its end."""
        return self.most_looks is not None and self.looks > self.most_looks

    @property
    def enough(self) -> bool:
        """Tell whether nothing more is looked at."""
        large = len(self.seen) > _MOST or self.listed > _MOST_LISTED
        return large or not self.wanted or self.cut

    def add(self, manifests: Iterable[Digest]) -> list[Digest]:
        """Take what was found, and return what is new."""
        fresh = [one for one in dict.fromkeys(manifests) if one not in self.seen]
        self.seen.update(dict.fromkeys(fresh))
        self._find(self.wanted.intersection(fresh))
        if any(isinstance(one, Tag) for one in self.wanted):
            for digest in fresh:
                self._find(self.wanted.intersection(_tags_of(digest)))
        return fresh

    def take(self, parts: _Parts) -> list[Digest]:
        """Take what a manifest lists, and return the manifests that are new."""
        self._find(self.wanted & parts.blobs)
        self.listed += len(parts.manifests)
        return self.add(parts.manifests)

    def _find(self, found: set[Reference]) -> None:
        self.found |= found
        self.wanted -= found


@dataclass(slots=True)
class _Shared:
    """The next long walk through a tree, and what it is to look for."""

    wanted: set[Reference]
    found: asyncio.Task[set[Reference]]


#: The repository of a tree, and its images.
_Key = tuple[str, tuple[Digest, ...]]


class ImageTrees:
    """The trees of the images of a store, as far as they are stored."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[Digest, _Parts] = OrderedDict()
        self._size = 0
        self._waiting: dict[_Key, _Shared] = {}
        self._long = asyncio.Semaphore(_LONG_AT_ONCE)

    async def holds(
        self,
        indexes: Sequence[RepositoryIndex],
        roots: Iterable[Digest],
        wanted: Reference,
        name: str = "",
    ) -> bool:
        """Tell whether something belongs to one of the images, or refers to what does.

        A tag does by which clients find what refers to such a manifest, whether it is there or not.
        The ``indexes`` are those of the repository ``name``.
        """
        images = tuple(dict.fromkeys(roots))
        walk = _Walk({wanted}, _QUICK)
        await self._go(walk, indexes, images)
        if walk.found or not walk.cut:
            return bool(walk.found)
        key = (name, images)
        shared = self._waiting.get(key)
        if shared is None:
            if len(self._waiting) >= _MOST_WAITING:
                raise TooManyRequests("too many large images are looked through; try again soon")
            task = asyncio.ensure_future(self._go_for_all(key, indexes))
            shared = self._waiting[key] = _Shared(set(), task)
        shared.wanted.add(wanted)
        return wanted in await asyncio.shield(shared.found)  # others wait for it, too

    async def _go_for_all(self, key: _Key, indexes: Sequence[RepositoryIndex]) -> set[Reference]:
        """Look for what many wait for; who comes after it began is told by the next walk."""
        async with self._long:
            walk = _Walk(self._waiting.pop(key).wanted)
            await self._go(walk, indexes, key[1])
            return walk.found

    async def _go(
        self, walk: _Walk, indexes: Sequence[RepositoryIndex], roots: Iterable[Digest]
    ) -> None:
        """Walk through the tree of some images."""
        asked, level = 0, walk.add(roots)
        while level and walk.wanted:
            await self._look_at(level, walk)
            if walk.enough:
                return
            some = list(walk.seen)[asked:_MOST_ASKED]
            asked += len(some)
            attached: list[Digest] = []

            async def ask(found: list[Digest], digests: Sequence[Digest]) -> None:
                for digest in digests:
                    if walk.cut:
                        return
                    walk.looks += 1
                    found += await _attached(indexes, digest)

            await spread(_in_steps(some), partial(ask, attached))
            level = walk.add(attached)

    async def _look_at(self, level: list[Digest], walk: _Walk) -> None:
        """Look at manifests and all that they list, those first of which it is known."""
        while level and not walk.enough:
            fresh: list[Digest] = []

            async def look(found: list[Digest], digests: Sequence[Digest]) -> None:
                for digest in digests:
                    if walk.enough:
                        return
                    found += await self._take(digest, walk)

            level.sort(key=lambda digest: digest not in self._known)
            await spread(_in_steps(level), partial(look, fresh))
            level = fresh

    async def _take(self, digest: Digest, walk: _Walk) -> list[Digest]:
        """Look at a manifest, and return what is new of what it lists."""
        found = self._known.get(digest)
        if found is None:
            walk.looks += 1
            size = await self._store.blobs.size(digest)
            if size is None or size > MAX_MANIFEST:  # buildkit's caches list layers as manifests
                return []
            async with walk.reading:  # each may have 4 MiB
                if walk.enough:
                    return []
                raw = await self._store.blobs.read(digest)
                if raw is None:
                    return []
                found = await aside(len(raw), partial(_read, raw, digest))
                self._remember(digest, found)
        return walk.take(found)

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


def _in_steps(digests: Sequence[Digest]) -> Iterator[Sequence[Digest]]:
    return (digests[start : start + _STEPS] for start in range(0, len(digests), _STEPS))


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
