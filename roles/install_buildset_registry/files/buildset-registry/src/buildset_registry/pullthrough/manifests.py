# SPDX-License-Identifier: Apache-2.0
"""Manifests of upstreams: for how long a tag holds, and what is served when upstream fails.

However many clients wait for a manifest, upstream is asked once. Where it cannot be asked, what it
said before is served, and logged as stale.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from buildset_registry.errors import (
    ManifestHidden,
    ManifestInvalid,
    ManifestUnknown,
    UpstreamBusy,
    UpstreamFailed,
)
from buildset_registry.lookup import Lookup, StoredManifest, link_manifest
from buildset_registry.oci.descriptor import IMAGES, INDEXES, Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest
from buildset_registry.oci.names import Reference, RepositoryName, Tag, referrers_tag
from buildset_registry.pullthrough.singleflight import SingleFlight
from buildset_registry.store.base import Store
from buildset_registry.upstream.client import RemoteManifest, UpstreamClient

_log = logging.getLogger("buildset_registry.upstream")


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
        client: UpstreamClient,
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
        self._lists = SingleFlight[tuple[RepositoryName, Digest], list[Descriptor] | None]()

    async def get(
        self, name: RepositoryName, reference: Reference, cached: StoredManifest | None
    ) -> StoredManifest | None:
        """Return what upstream has now or had when it was asked; None where ``cached`` holds."""
        if cached is not None and await self._holds(name, reference):
            self._counters.hits["manifest"] += 1
            return None
        return await self._current(name, reference, cached)

    async def describe(
        self, name: RepositoryName, reference: Reference, cached: StoredManifest | None
    ) -> Descriptor | None:
        """Describe what ``get`` would return; what is not cached is not fetched.

        Upstreams limit GET and not HEAD (Docker Hub). Where an upstream says no to HEAD, or not
        what there is, GET decides.
        """
        if cached is None:
            ask = partial(self._client.head, name, reference)
            with suppress(ManifestUnknown):
                told = await self._heads.join((name, reference), ask)
                if told.media_type in IMAGES | INDEXES:
                    return told
        current = await self.get(name, reference, cached)
        return None if current is None else current.descriptor

    async def is_at_upstream(self, name: RepositoryName, digest: Digest) -> bool:
        """Tell whether upstream has a manifest; one that hides what it has may."""
        for ask in (self._client.head, self._client.manifest):
            try:
                await ask(name, digest)
            except ManifestHidden:
                return True
            except ManifestUnknown:
                continue  # some registries do not know HEAD of what GET sends
            return True
        return False

    async def referrers(self, name: RepositoryName, subject: Digest) -> list[Descriptor]:
        """Return what upstream lists as referring to a manifest, by its API or by a tag.

        Where upstream fails, the store's own list has to do for a manifest that the store has.
        """
        ask = partial(self._client.referrers, name.canonical, subject)
        try:
            listed = await self._lists.join((name.canonical, subject), ask)
            if listed is None:
                stored = await self._lookup.manifest(name, referrers_tag(subject))
                listed = [*_parsed(name, stored).manifests] if stored is not None else []
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
        asked = self._fetches.join((name, reference), partial(self._ask, name, reference, cached))
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
        self._counters.stale += 1
        _log.warning("%s:%s is stale, served from the store: %s", name, reference, reason)
        return cached

    async def _ask(
        self, name: RepositoryName, reference: Reference, cached: StoredManifest | None
    ) -> StoredManifest:
        """Compare what is cached with upstream's, and fetch what differs."""
        index = self._store.cached(name)
        if cached is not None and isinstance(reference, Tag):
            try:
                now = await self._client.head(name, reference)
            except ManifestHidden:
                raise
            except ManifestUnknown:
                await index.tags.remove(reference)
                raise
            if now.digest == cached.digest:
                await index.tags.set(reference, cached.digest)
                self._counters.hits["manifest"] += 1
                return cached
        self._counters.misses["manifest"] += 1
        remote = await self._client.manifest(name, reference)
        manifest = _parsed(name, remote)
        await self._store.blobs.put(manifest.digest, remote.raw)
        await link_manifest(index, manifest)
        if isinstance(reference, Tag):
            await index.tags.set(reference, manifest.digest)
        return StoredManifest(remote.raw, manifest.media_type, manifest.digest)


def _parsed(name: RepositoryName, remote: RemoteManifest | StoredManifest) -> Manifest:
    try:
        return Manifest.parse(remote.raw, remote.media_type, remote.digest.algorithm)
    except ManifestInvalid as error:
        raise UpstreamFailed(
            f"upstream {name.host} sends a manifest that is not valid: {error.message}"
        ) from None
