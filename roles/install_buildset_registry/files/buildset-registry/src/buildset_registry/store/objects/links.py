# SPDX-License-Identifier: Apache-2.0
"""A repository's links in objects: layers, manifests, tags; referrers beside them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial

from buildset_registry.errors import RegistryError, TagInvalid
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Tag
from buildset_registry.parallel import to_its_end, together
from buildset_registry.store.base import Blobs, LinkState, TagTarget
from buildset_registry.store.objects import keys
from buildset_registry.store.objects.dialect import (
    ABSENT,
    Condition,
    ConditionFailed,
    ObjectFailure,
    ObjectState,
)
from buildset_registry.store.objects.lists import RecentLists
from buildset_registry.store.objects.promises import Promises
from buildset_registry.store.objects.referrers import ObjectReferrers
from buildset_registry.store.objects.small import SmallObject, SmallObjects

#: A use of a link is noted when the last one noted is older than this: noting one is a request.
_NOTED_SECONDS = 300
#: Times of objects are in whole seconds, by the clock of the service.
_PRUNED_SECONDS = 60
#: A tag that was set so lately, as far as the clocks agree, may be of the second that is not over
#: yet; after a moment it is.
_RECENT_SECONDS = 5
_MOMENT = 1.1

_log = logging.getLogger("buildset_registry.store")


@dataclass(frozen=True, slots=True)
class ObjectContext:
    """The things that the links of one repository have in common."""

    small: SmallObjects
    promises: Promises
    blobs: Blobs
    tags: RecentLists[Tag]
    changed: Callable[[], None]
    """Called after a link was made or removed: the repository may be a new one, or hold nothing."""

    linked: Callable[[Digest], None]
    """Told of each link that is made."""

    tracked: bool
    """Whether asking for a link counts as using it."""

    listed: bool
    """Whether what was written is listed at once."""


class ObjectRepository:
    """One repository's links, below its own key or below its ``_upstream``."""

    def __init__(self, folder: str, context: ObjectContext) -> None:
        self._folder = folder
        self._context = context
        self.layers = ObjectLinks(keys.layers(folder), context)
        self.manifests = ObjectManifests(keys.revisions(folder), context)
        self.tags = ObjectTags(keys.tags(folder), context, self.manifests)
        self.referrers = ObjectReferrers(folder, context.small)

    async def exists(self) -> bool:
        objects = self._context.small.objects
        async for page in objects.list(self._folder, shallow=True):
            if any(one.endswith((keys.LAYERS, keys.MANIFESTS)) for one in page.prefixes):
                return True
        return False


class ObjectLinks:
    """``<folder>/<algorithm>/<hex>/link``; its time is when it was last used."""

    def __init__(self, folder: str, context: ObjectContext) -> None:
        self._folder = folder
        self._context = context
        self._small = context.small
        self._resting = 0.0
        """Until when no use is noted, since the service took none."""

    async def has(self, digest: Digest) -> bool:
        found = await self._small.recall(self._link(digest))
        if found is None:
            return False
        if self._context.tracked and time.time() - found.changed > _NOTED_SECONDS:
            await self._note_use(digest, found)
        return True

    async def target(self, digest: Digest) -> Digest | None:
        found = await self._small.recall(self._link(digest))
        return None if found is None else parse_link(found)

    async def add(self, digest: Digest, target: Digest | None = None) -> None:
        try:
            await self._small.write(self._link(digest), str(target or digest).encode())
            self._context.linked(digest)
        finally:
            self._context.changed()

    async def use(self, digest: Digest) -> bool:
        found = await self._small.read(self._link(digest))
        return found is not None and await self._touch(digest, found)

    async def remove(self, digest: Digest) -> bool:
        try:
            return await self._remove(digest)
        finally:
            self._context.changed()

    async def all(self) -> list[LinkState]:
        return [
            LinkState(digest, one.changed)
            async for page in self._small.objects.list(self._folder)
            for one in page.objects
            if (digest := keys.linked(self._folder, one.key)) is not None
        ]

    async def expire(self, digest: Digest, used_before: float) -> bool:
        state = await self._small.objects.head(self._link(digest))
        if state is None or state.changed >= used_before:
            return False
        async with self._context.promises.condemned(digest) as condemnation:
            if condemnation.given.changed >= used_before:
                return False
            state = await self._small.objects.head(self._link(digest))
            if state is None or state.changed >= used_before:
                return False
            return await condemnation.removing(partial(self.remove, digest))

    async def prune(self, digest: Digest) -> bool:
        target = await self._fresh_target(digest)
        if target is None or await self._context.blobs.size(target) is not None:
            return False
        async with self._context.promises.condemned(target) as condemnation:
            if condemnation.given.changed > condemnation.now - _PRUNED_SECONDS:
                return False
            if await self._context.blobs.size(target) is not None:
                return False
            return await condemnation.removing(partial(self.remove, digest))

    async def _remove(self, digest: Digest) -> bool:
        return await self._small.remove(self._link(digest))

    async def _note_use(self, digest: Digest, found: SmallObject) -> None:
        """Note a use, if the service takes it: one that is full is still good to pull from."""
        if time.monotonic() < self._resting:
            return
        try:
            await self._touch(digest, found)
        except ObjectFailure as error:
            # It was tried for a while: not by each pull.
            self._resting = time.monotonic() + _NOTED_SECONDS
            _log.warning("that %s is used cannot be noted: %s", digest, error.strerror)

    async def _fresh_target(self, digest: Digest) -> Digest | None:
        found = await self._small.read(self._link(digest))
        return None if found is None else parse_link(found)

    async def _touch(self, digest: Digest, found: SmallObject) -> bool:
        """Write a link again as it is; False where it was removed meanwhile."""
        try:
            condition = Condition(found.version)
            await self._small.write(self._link(digest), found.content, condition)
        except ConditionFailed:  # by somebody who used it, or removed it
            return await self._small.objects.head(self._link(digest)) is not None
        return True

    def _link(self, digest: Digest) -> str:
        return keys.link(self._folder, digest)


class ObjectManifests(ObjectLinks):
    """Links to manifests, with ``media-type`` beside a link whose bytes do not tell it."""

    async def media_type(self, digest: Digest) -> str | None:
        found = await self._small.recall(keys.media_type(self._folder, digest))
        return found.content.decode("latin-1") if found else None

    async def set_media_type(self, digest: Digest, media_type: str) -> None:
        await self._small.write(keys.media_type(self._folder, digest), media_type.encode())

    async def remains(self, digest: Digest) -> bool:
        return await self._small.objects.head(self._link(digest)) is not None

    async def _remove(self, digest: Digest) -> bool:
        removed = await super()._remove(digest)
        await self._small.remove(keys.media_type(self._folder, digest))
        return removed


class ObjectTags:
    """``_manifests/tags/<tag>/{current,index}``; what one points to is asked for each time."""

    def __init__(self, folder: str, context: ObjectContext, manifests: ObjectManifests) -> None:
        self._folder = folder
        self._context = context
        self._small = context.small
        self._manifests = manifests

    async def get(self, tag: Tag) -> TagTarget | None:
        found = await self._small.read(keys.tag_link(self._folder, tag))
        target = None if found is None else parse_link(found)
        return None if found is None or target is None else TagTarget(target, found.changed)

    async def set(self, tag: Tag, digest: Digest) -> None:
        await self._set(tag, digest)

    async def restore(self, tag: Tag, digest: Digest) -> None:
        with contextlib.suppress(ConditionFailed):
            await self._set(tag, digest, ABSENT)

    async def _set(self, tag: Tag, digest: Digest, condition: Condition | None = None) -> None:
        content = str(digest).encode()
        try:
            # First what distribution lists all that a tag ever was by: it may be too much there.
            # ``expire`` of another replica looks there after a removal, and ``of`` before one.
            index = keys.link(keys.tag_index(self._folder, tag), digest)
            await self._small.write(index, content)
            await self._small.write(keys.tag_link(self._folder, tag), content, condition)
        finally:
            self._changed()

    async def remove(self, tag: Tag) -> bool:
        try:
            removed = await self._small.remove(keys.tag_link(self._folder, tag))
            await self._small.remove_all(f"{self._folder}{tag}/")
            return removed
        finally:
            self._changed()

    async def all(self) -> Sequence[Tag]:
        return await self._context.tags.get(self._folder, partial(self._scan))

    async def of(self, digest: Digest) -> Sequence[Tag]:
        """List those that have the manifest in their index, or have nothing there.

        Where a list may lag, all that there are: a tag may be listed, and what it was moved to not.
        """
        if not self._context.listed:
            return await self._scan()
        tags, _halves = await self._survey(lambda indexed: indexed == digest)
        return sorted(tags)

    async def expire(self, tag: Tag, target: TagTarget) -> bool:
        """Remove a tag, and give it back where another replica is just setting it.

        No service removes an object on a condition. But who sets a tag writes first what it is to
        be in its index: one that is newer than the tag that was removed is of somebody who set it
        since, and whose link may be gone. Of somebody who was killed there, it may be of a manifest
        that was removed. Times are in seconds: a tag that was just set is given a moment, so that
        what is set after it is newer.
        """
        if time.time() - target.checked < _RECENT_SECONDS:
            await asyncio.sleep(_MOMENT)
        if await self.get(tag) != target:
            return False
        try:
            # Who is cancelled behind the removal has not looked yet whose link that was.
            return await to_its_end(self._expire(tag, target))
        finally:
            self._changed()

    async def _expire(self, tag: Tag, target: TagTarget) -> bool:
        """Remove a tag; where nobody knows whether it was set since, it stays what it was."""
        link, kept = keys.tag_link(self._folder, tag), target.digest
        try:
            await self._small.remove(link)
            found, set_since = await self._set_since(tag, target)
            kept = set_since or kept
            stays = set_since is not None and await self._manifests.remains(set_since)
        except ObjectFailure:
            with contextlib.suppress(ObjectFailure):  # who set it since, wrote its own link
                await self._small.write(link, str(kept).encode(), ABSENT)
            raise
        if stays:
            with contextlib.suppress(ConditionFailed):  # its own link came after the removal
                await self._small.write(link, str(kept).encode(), ABSENT)
            return False
        await together([one.key for one in found], self._small.objects.delete)
        return True

    async def _set_since(
        self, tag: Tag, target: TagTarget
    ) -> tuple[Sequence[ObjectState], Digest | None]:
        """Return a tag's index, and what somebody has put there since it was the target."""
        index = keys.tag_index(self._folder, tag)
        found = [one async for page in self._small.objects.list(index) for one in page.objects]
        newest = max(found, key=lambda one: one.changed, default=None)
        if newest is None or newest.changed <= target.checked:
            return found, None
        return found, keys.linked(index, newest.key)

    async def prune(self, before: float) -> int:
        """Remove what is left where a process was killed in setting a tag, or in a removal."""
        known = {state.digest for state in await self._manifests.all()}
        doubtful, halves = await self._survey(lambda indexed: indexed not in known)
        found = 0
        for tag, changed in halves.items():
            link = keys.tag_link(self._folder, tag)
            if max(changed.values()) < before and await self._small.objects.head(link) is None:
                await together(changed, self._small.objects.delete)
                found += 1
        for tag in doubtful:
            target = await self.get(tag)
            if target is None or target.checked >= before or target.digest in known:
                continue
            if not await self._manifests.remains(target.digest):
                found += await self.expire(tag, target)
        if found:
            self._changed()
        return found

    async def _survey(
        self, wanted: Callable[[Digest | None], bool]
    ) -> tuple[AbstractSet[Tag], dict[Tag, dict[str, float]]]:
        """Return the tags that may lead to what is wanted, and the objects of tags without a link.

        The former by what is in their index, or since nothing is there.
        """
        linked, indexed, leading = set[Tag](), set[Tag](), set[Tag]()
        halves: dict[Tag, dict[str, float]] = {}
        async for tag, one in self._objects():
            if one.key == keys.tag_link(self._folder, tag):
                linked.add(tag)
                continue
            indexed.add(tag)
            if tag not in linked:
                halves.setdefault(tag, {})[one.key] = one.changed
            if wanted(keys.linked(keys.tag_index(self._folder, tag), one.key)):
                leading.add(tag)
        halves = {tag: changed for tag, changed in halves.items() if tag not in linked}
        return linked & leading | linked - indexed, halves

    async def _objects(self) -> AsyncIterator[tuple[Tag, ObjectState]]:
        """Yield all that there is of each tag; what has no tag's name is another program's."""
        async for page in self._small.objects.list(self._folder):
            for one in page.objects:
                with contextlib.suppress(TagInvalid):
                    yield Tag.parse(one.key[len(self._folder) :].partition("/")[0]), one

    def _changed(self) -> None:
        self._context.tags.forget(self._folder)
        self._context.changed()

    async def _scan(self) -> list[Tag]:
        """List the tags; what has no tag's name was put there by another program."""
        found = []
        async for page in self._small.objects.list(self._folder, shallow=True):
            for prefix in page.prefixes:
                with contextlib.suppress(TagInvalid):
                    found.append(Tag.parse(prefix[len(self._folder) : -1]))
        return found


def parse_link(found: SmallObject) -> Digest | None:
    """Return the digest that a link names; None where there is nothing in it."""
    try:
        return Digest.parse(found.content.decode("latin-1"))
    except RegistryError:
        return None
