# SPDX-License-Identifier: Apache-2.0
"""Manifests of upstreams: for how long a tag holds, and what is served when upstream fails.

However many clients wait for a manifest, upstream is asked once. Where it cannot be asked, what it
said before is served, and logged as stale.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from buildset_registry.errors import (
    ManifestHidden,
    ManifestInvalid,
    ManifestUnknown,
    StorageFull,
    UpstreamBusy,
    UpstreamFailed,
)
from buildset_registry.latest import Latest
from buildset_registry.lookup import Lookup
from buildset_registry.manifest_links import link_manifest
from buildset_registry.oci.descriptor import IMAGES, INDEXES, OCI_INDEX, Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest
from buildset_registry.oci.names import Reference, RepositoryName, Tag, referrers_tag
from buildset_registry.pacing import aside
from buildset_registry.pullthrough.remote import RemoteManifests
from buildset_registry.pullthrough.singleflight import SingleFlight
from buildset_registry.sources import FixedTag, StoredManifest
from buildset_registry.store.base import Store
from buildset_registry.upstream.client import RemoteManifest

_log = logging.getLogger("buildset_registry.upstream")
_Found = TypeVar("_Found", StoredManifest | None, Descriptor | None)

#: Tags that HEAD has told of, and whose manifest nobody has asked for yet.
_MOST_DESCRIBED = 256


@dataclass(frozen=True, slots=True)
class Freshness:
    """Times in seconds that decide whether upstream is asked where an answer is at hand."""

    tag_seconds: float | None = None
    """For how long a tag holds; None for ever."""

    wait_seconds: float = 10.0
    """For how long a client waits for upstream."""

    rest_seconds: float = 30.0
    """For how long an upstream that could not be asked is left alone: its time-outs would otherwise
    be added to every pull."""

    clock: Callable[[], float] = time.time


class ManifestCache:
    """Manifests that were pulled through, compared with upstream's when a tag holds no longer."""

    def __init__(
        self,
        store: Store,
        client: RemoteManifests,
        lookup: Lookup,
        freshness: Freshness,
    ) -> None:
        self._store = store
        self._lookup = lookup
        self._client = client
        self._counters = client.counters
        self._freshness = freshness
        self._resting: dict[str, float] = {}
        self._fetches = SingleFlight[tuple[RepositoryName, Reference], StoredManifest]()
        self._heads = SingleFlight[tuple[RepositoryName, Reference], Descriptor]()
        self._described: Latest[tuple[RepositoryName, Tag], Digest] = Latest(_MOST_DESCRIBED)
        self._lists = SingleFlight[tuple[RepositoryName, Digest], list[Descriptor] | None]()

    async def get(
        self,
        name: RepositoryName,
        reference: Reference,
        cached: StoredManifest | None,
        fixed: FixedTag | None = None,
    ) -> StoredManifest | None:
        """Return what upstream has now or had when it was asked; None where ``cached`` holds."""
        if fixed is not None:
            return await self._fixed(name, reference, fixed, partial(self.get, cached=cached))
        if cached is not None and await self._holds(name, reference):
            self._counters.hits["manifest"] += 1
            return None
        return await self._current(name, reference, cached)

    async def describe(
        self,
        name: RepositoryName,
        reference: Reference,
        cached: StoredManifest | None,
        fixed: FixedTag | None = None,
    ) -> Descriptor | None:
        """Describe what ``get`` would return; what is not cached is not fetched.

        Upstreams limit GET and not HEAD (Docker Hub). Where an upstream says no to HEAD, or not
        what there is, GET decides.
        """
        if fixed is not None:
            return await self._fixed(name, reference, fixed, partial(self.describe, cached=cached))
        if cached is None:
            ask = partial(self._client.head, name, reference)
            with suppress(ManifestUnknown):
                told = await self._heads.join((name, reference), ask)
                if told.media_type in IMAGES | INDEXES:
                    await self._note(name, reference, told.digest)
                    return told
        current = await self.get(name, reference, cached)
        return None if current is None else current.descriptor

    async def is_at_upstream(self, name: RepositoryName, digest: Digest) -> bool:
        """Tell whether upstream has a manifest; one that hides what it has may.

        What HEAD denies or does not find, the client asks for by GET, which decides.
        """
        try:
            await self._client.head(name, digest)
        except ManifestHidden:
            return True
        except ManifestUnknown:
            return False
        return True

    async def referrers(self, name: RepositoryName, subject: Digest) -> list[Descriptor]:
        """Return what upstream lists as referring to a manifest, by its API or by a tag.

        Where upstream fails, the store's own list has to do for a manifest that the store has.
        """
        ask = partial(self._client.referrers, name.canonical, subject)
        try:
            listed = await self._lists.join((name.canonical, subject), ask)
            if listed is None:
                stored = await self._lookup.manifest(name, referrers_tag(subject))
                listed = [] if stored is None else await _listed(name, subject, stored)
        except ManifestUnknown:
            return []
        except (UpstreamFailed, UpstreamBusy) as error:
            if await self._lookup.stored_manifest(name, subject) is None:
                raise
            self._counters.stale += 1
            _log.warning(
                "referrers of %s@%s are stale, those of the store: %s", name, subject, error.message
            )
            return []
        return listed

    async def close(self) -> None:
        """Stop what is under way."""
        await self._fetches.close()
        await self._heads.close()
        await self._lists.close()

    async def _fixed(
        self,
        name: RepositoryName,
        reference: Reference,
        fixed: FixedTag,
        ask: Callable[[RepositoryName, Reference], Awaitable[_Found]],
    ) -> _Found:
        """Return what upstream has by the digest that a tag is fixed to.

        The tag is noted as if upstream had said it, so that what was pulled is on record.
        """
        target = None
        if isinstance(reference, Tag):
            target = await self._store.cached(name).tags.get(reference)
        if target is None or target.digest != fixed.digest:
            await self._note(name, reference, fixed.digest)
        try:
            return await ask(name, fixed.digest)
        except ManifestUnknown as error:
            image = f"{name.host}/{name.remote}:{reference}"
            raise type(error)(
                f"{image} is {fixed.digest} by {fixed.fixed_by}, and {error.message}"
            ) from None

    async def _holds(self, name: RepositoryName, reference: Reference) -> bool:
        """Tell whether a cached manifest need not be compared with upstream's."""
        seconds = self._freshness.tag_seconds
        if isinstance(reference, Digest) or seconds is None:
            return True
        target = await self._store.cached(name).tags.get(reference)
        # A clock that was set back makes no tag hold for ever.
        return target is not None and 0 <= self._freshness.clock() - target.checked < seconds

    async def _current(
        self, name: RepositoryName, reference: Reference, cached: StoredManifest | None
    ) -> StoredManifest:
        """Ask upstream; where that fails, return what is cached."""
        if cached is not None and time.monotonic() < self._resting.get(name.host, 0.0):
            return self._stale(name, reference, cached, "it could not be asked a moment ago")
        asked = self._fetches.join((name, reference), partial(self._fetch, name, reference, cached))
        if cached is None:
            return await asked
        try:
            return await asyncio.wait_for(asked, self._freshness.wait_seconds)
        except ManifestHidden as error:
            return self._stale(name, reference, cached, error.message)
        except (UpstreamFailed, UpstreamBusy) as error:
            reason = error.message
        except asyncio.TimeoutError:
            seconds = self._freshness.wait_seconds
            reason = f"upstream {name.host}: no answer within {seconds:g} s"
        self._resting[name.host] = time.monotonic() + self._freshness.rest_seconds
        return self._stale(name, reference, cached, reason)

    def _stale(
        self, name: RepositoryName, reference: Reference, cached: StoredManifest, reason: str
    ) -> StoredManifest:
        self._counters.note_stale(name, str(reference))
        _log.warning("%s:%s is stale, served from the store: %s", name, reference, reason)
        return cached

    async def _fetch(
        self, name: RepositoryName, reference: Reference, cached: StoredManifest | None
    ) -> StoredManifest:
        """Ask, unless it came between a client's look into the store and its turn to ask."""
        if cached is None and isinstance(reference, Digest):
            stored = await self._lookup.cached_manifest(name, reference)
            if stored is not None:
                self._counters.hits["manifest"] += 1
                return stored
        return await self._ask(name, reference, cached)

    async def _ask(
        self, name: RepositoryName, reference: Reference, cached: StoredManifest | None
    ) -> StoredManifest:
        """Compare what is cached with upstream's, and fetch what differs."""
        index = self._store.cached(name)
        stored: StoredManifest | None = None
        if cached is not None and isinstance(reference, Tag):
            try:
                now = await self._client.head(name, reference)
            except ManifestHidden:
                raise
            except ManifestUnknown:
                await self._forget(name, reference)
                raise
            if now.digest == cached.digest and await self._confirm(name, reference, now.digest):
                self._counters.hits["manifest"] += 1
                return cached
            # A GET is counted: of what the repository has by another tag, none is needed.
            stored = await self._lookup.stored_manifest(name, now.digest)
        (self._counters.misses if stored is None else self._counters.hits)["manifest"] += 1
        remote = stored or await self._client.manifest(name, reference)
        manifest = await aside(len(remote.raw), partial(_parsed, name, remote))
        tags = self._tags_of(name, reference)
        try:
            async with self._store.turns.manifest(name, manifest.digest, tags):
                await self._store.blobs.put(manifest.digest, remote.raw)
                await link_manifest(index, manifest)
                for tag in tags:
                    await index.tags.set(tag, manifest.digest)
        except (StorageFull, OSError) as error:
            _log.warning("%s:%s is served and not stored: %s", name, reference, error)
        return StoredManifest(remote.raw, manifest.media_type, manifest.digest)

    async def _forget(self, name: RepositoryName, tag: Tag) -> None:
        """Remove a tag that upstream has no more; where that fails, upstream is asked again."""
        async with self._store.turns.tag(name, tag):
            try:
                await self._store.cached(name).tags.remove(tag)
            except OSError as error:
                _log.warning("that %s:%s is gone cannot be noted: %s", name, tag, error)

    async def _note(self, name: RepositoryName, reference: Reference, digest: Digest) -> None:
        """Note what HEAD told of a tag: clients ask for the manifest by its digest next.

        So the tag holds from then on, as if it had been asked for by GET.
        """
        if isinstance(reference, Tag) and not await self._confirm(name, reference, digest):
            self._described[name, reference] = digest

    def _tags_of(self, name: RepositoryName, reference: Reference) -> list[Tag]:
        """Return the tags that what is fetched now was asked for by."""
        if isinstance(reference, Tag):
            self._described.pop((name, reference), None)
            return [reference]
        noted = [
            tag
            for (one, tag), digest in self._described.items()
            if one == name and digest == reference
        ]
        for tag in noted:
            del self._described[name, tag]
        return noted

    async def _confirm(self, name: RepositoryName, tag: Tag, digest: Digest) -> bool:
        """Note that a tag still holds; False where its manifest was removed meanwhile.

        Where that cannot be written, as on a disk that is full, upstream is asked again for the
        next pull: what is here goes on being served.
        """
        index = self._store.cached(name)
        async with self._store.turns.manifest(name, digest, [tag]):
            if not await index.manifests.has(digest):
                return False
            try:
                await index.tags.set(tag, digest)
            except OSError as error:
                _log.warning("that %s:%s still holds cannot be noted: %s", name, tag, error)
        return True


async def _listed(
    name: RepositoryName, subject: Digest, stored: StoredManifest
) -> list[Descriptor]:
    """Return the list under a referrers tag. Some registries take the tag for the digest that it is
    made of, and answer by the subject: its children refer to nothing."""
    if stored.media_type != OCI_INDEX or Digest.of(stored.raw, subject.algorithm) == subject:
        return []
    parsed = await aside(len(stored.raw), partial(_parsed, name, stored))
    return list(parsed.manifests)


def _parsed(name: RepositoryName, remote: RemoteManifest | StoredManifest) -> Manifest:
    try:
        algorithm = remote.digest.algorithm
        return Manifest.parse(remote.raw, remote.media_type, algorithm, strict=False)
    except ManifestInvalid as error:
        raise UpstreamFailed(
            f"upstream {name.host} sends a manifest that is not valid: {error.message}"
        ) from None
