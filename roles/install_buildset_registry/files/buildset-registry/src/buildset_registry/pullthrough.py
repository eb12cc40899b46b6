# SPDX-License-Identifier: Apache-2.0
"""Pull-through: what the buildset does not have comes from upstream, once, and stays.

However many clients wait for a manifest or a blob, upstream is asked once: they share a task. The
task, not a client, owns the transfer, so a client that leaves spoils nothing. Where upstream cannot
be asked, what it said before is served, and logged as stale.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from buildset_registry.download import BlobStream, Download
from buildset_registry.errors import (
    ManifestHidden,
    ManifestInvalid,
    ManifestUnknown,
    RegistryError,
    UpstreamBusy,
    UpstreamFailed,
)
from buildset_registry.flights import Flights
from buildset_registry.holdings import Holdings, StoredManifest, link_manifest
from buildset_registry.oci.descriptor import Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest
from buildset_registry.oci.names import Reference, RepositoryName, Tag, referrers_tag
from buildset_registry.store.base import BlobFile, Store
from buildset_registry.upstream.client import RemoteManifest, UpstreamClient

#: An upstream that could not be asked is left alone for so many seconds where an answer is at
#: hand: its time-outs would otherwise be added to every pull.
_REST = 30.0
#: Seconds that a client waits for an upstream where an answer is at hand.
_PATIENCE = 10.0

_log = logging.getLogger("buildset_registry.upstream")


@dataclass(frozen=True, slots=True)
class _Transfer:
    """A download, the repository it is asked for in, and all whose clients wait for it."""

    download: Download
    home: RepositoryName
    names: set[RepositoryName]


class PullThrough:
    """Ask upstream for what the store lacks; close it before the store.

    Tags hold for ``tag_seconds``, or for ever; then upstream is asked whether they have changed.
    """

    def __init__(
        self,
        store: Store,
        client: UpstreamClient,
        *,
        tag_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.counters = client.counters
        self._store = store
        self._holdings = Holdings(store)
        self._client = client
        self._tag_seconds = tag_seconds
        self._clock = clock
        self._resting: dict[str, float] = {}
        self._manifests = Flights[tuple[RepositoryName, Reference], StoredManifest]()
        self._referrers = Flights[tuple[RepositoryName, Digest], list[Descriptor] | None]()
        self._sizes = Flights[tuple[RepositoryName, Digest], int]()
        self._running = Flights[tuple[str, Digest], None]()
        self._transfers: dict[tuple[str, Digest], _Transfer] = {}

    def serves(self, name: RepositoryName) -> bool:
        """Tell whether an upstream is configured for the repository."""
        return self._client.serves(name)

    async def manifest(self, name: RepositoryName, reference: Reference) -> StoredManifest:
        """Return what a job pushed, or else what upstream has now or had when it was asked."""
        pushed = await self._holdings.pushed_manifest(name, reference)
        if pushed is not None:
            return pushed
        name = name.canonical
        cached = await self._holdings.cached_manifest(name, reference)
        if cached is not None and await self._holds(name, reference):
            self.counters.hits["manifest"] += 1
            return cached
        found = await self._current(name, reference, cached)
        # A job may have pushed the tag while upstream was being asked: its push wins.
        return await self._holdings.pushed_manifest(name, reference) or found

    async def referrers(self, name: RepositoryName, subject: Digest) -> list[Descriptor]:
        """Return what upstream lists as referring to a manifest, by its API or by a tag.

        Where upstream fails, the store's own list has to do for a manifest that the store has.
        """
        ask = partial(self._client.referrers, name.canonical, subject)
        try:
            listed = await self._referrers.join((name.canonical, subject), ask)
            if listed is None:
                stored = await self.manifest(name, referrers_tag(subject))
                listed = [*_parsed(name, stored).manifests]
        except ManifestUnknown:
            return []
        except (UpstreamFailed, UpstreamBusy) as error:
            if await self._holdings.manifest(name, subject) is None:
                raise
            self.counters.stale += 1
            _log.warning(
                "referrers of %s@%s are stale, those of the store: %s", name, subject, error.message
            )
            return []
        return listed

    async def blob(self, name: RepositoryName, digest: Digest) -> BlobFile | BlobStream:
        """Return a stored blob, or a stream of one that is arriving."""
        pushed = await self._holdings.pushed_blob(name, digest)
        if pushed is not None:
            return pushed
        name = name.canonical
        while True:
            transfer = self._transfers.get((name.host, digest))
            if transfer is None:
                held = await self._held_blob(name, digest)
                if held is not None:
                    self.counters.hits["blob"] += 1
                    return held
                transfer = self._transfers.get((name.host, digest)) or self._start(name, digest)
            stream = await self._follow(transfer, name, digest)
            if stream is not None:
                return stream

    async def blob_size(self, name: RepositoryName, digest: Digest) -> int:
        """Return the size of a blob that is not held; upstream says it, or a transfer does."""
        name = name.canonical
        transfer = self._transfers.get((name.host, digest))
        known = transfer.download.size if transfer and name in transfer.names else None
        return await self._upstream_size(name, digest) if known is None else known

    async def close(self) -> None:
        """Stop transfers that are under way."""
        for flights in (self._manifests, self._referrers, self._sizes, self._running):
            await flights.close()
        await self._client.close()

    # -- manifests

    async def _holds(self, name: RepositoryName, reference: Reference) -> bool:
        """Tell whether a cached manifest need not be compared with upstream's."""
        if isinstance(reference, Digest) or self._tag_seconds is None:
            return True
        target = await self._store.cached(name).tags.get(reference)
        # A clock that was set back makes no tag hold for ever.
        return target is not None and 0 <= self._clock() - target.checked < self._tag_seconds

    async def _current(
        self, name: RepositoryName, reference: Reference, cached: StoredManifest | None
    ) -> StoredManifest:
        """Ask upstream; where that fails, return what is cached."""
        if cached is not None and time.monotonic() < self._resting.get(name.host, 0.0):
            return self._stale(name, reference, cached, "it could not be asked a moment ago")
        asked = self._manifests.join((name, reference), partial(self._ask, name, reference, cached))
        if cached is None:
            return await asked
        try:
            return await asyncio.wait_for(asked, _PATIENCE)
        except ManifestHidden as error:
            return self._stale(name, reference, cached, error.message)
        except (UpstreamFailed, UpstreamBusy) as error:
            reason = error.message
        except asyncio.TimeoutError:
            reason = f"upstream {name.host}: no answer within {_PATIENCE:g} s"
        self._resting[name.host] = time.monotonic() + _REST
        return self._stale(name, reference, cached, reason)

    def _stale(
        self, name: RepositoryName, reference: Reference, cached: StoredManifest, reason: str
    ) -> StoredManifest:
        self.counters.stale += 1
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
                self.counters.hits["manifest"] += 1
                return cached
        self.counters.misses["manifest"] += 1
        remote = await self._client.manifest(name, reference)
        manifest = _parsed(name, remote)
        await self._store.blobs.put(manifest.digest, remote.raw)
        await link_manifest(index, manifest)
        if isinstance(reference, Tag):
            await index.tags.set(reference, manifest.digest)
        return StoredManifest(remote.raw, manifest.media_type, manifest.digest)

    # -- blobs

    async def _held_blob(self, name: RepositoryName, digest: Digest) -> BlobFile | None:
        """Return a blob that was pulled through, or that the store has and upstream here, too."""
        held = await self._holdings.cached_blob(name, digest)
        if held is None and await self._store.blobs.size(digest) is not None:
            # Another repository holds it; whether this one has it, upstream tells.
            await self._upstream_size(name, digest)
            # Collection may be about to remove it, until it is told that it is wanted.
            if await self._store.blobs.keep(digest) is not None:
                await self._store.cached(name).layers.add(digest)
                held = await self._store.blobs.open(digest)
        return held

    async def _upstream_size(self, name: RepositoryName, digest: Digest) -> int:
        ask = partial(self._client.blob_size, name, digest)
        try:
            return await self._sizes.join((name, digest), ask)
        except (UpstreamFailed, UpstreamBusy) as error:
            size = await self._store.blobs.size(digest)
            if size is None or not await self._holdings.is_layer_of_cached(name, digest):
                raise
            self.counters.stale += 1
            _log.warning("%s of %s is served from the store: %s", digest, name, error.message)
            return size

    def _start(self, name: RepositoryName, digest: Digest) -> _Transfer:
        key = (name.host, digest)
        source = partial(self._client.blob, name, digest)
        download = Download(digest, source, name.host, self.counters)
        transfer = self._transfers[key] = _Transfer(download, name, {name})
        self._running.begin(key, partial(self._run, key, transfer))
        return transfer

    async def _follow(
        self, transfer: _Transfer, name: RepositoryName, digest: Digest
    ) -> BlobStream | None:
        """Attach a client; None where it has to look again, since the transfer is no more."""
        if name not in transfer.names:
            # It is on its way for another repository; whether this one has it, upstream tells.
            await self._upstream_size(name, digest)
            if self._transfers.get((name.host, digest)) is not transfer:
                return None
            transfer.names.add(name)
        try:
            return await transfer.download.stream()
        except RegistryError:
            if transfer.home == name:
                raise
            return None

    async def _run(self, key: tuple[str, Digest], transfer: _Transfer) -> None:
        """Run a download; once it has failed, the next client starts another."""
        self.counters.misses["blob"] += 1
        self.counters.downloads += 1

        async def link() -> None:
            linked: set[RepositoryName] = set()
            while rest := transfer.names - linked:
                name = rest.pop()
                await self._store.cached(name).layers.add(key[1])
                linked.add(name)

        try:
            await transfer.download.run(self._store.blobs, link)
        finally:
            self.counters.downloads -= 1
            del self._transfers[key]


def _parsed(name: RepositoryName, remote: RemoteManifest | StoredManifest) -> Manifest:
    try:
        return Manifest.parse(remote.raw, remote.media_type, remote.digest.algorithm)
    except ManifestInvalid as error:
        raise UpstreamFailed(
            f"upstream {name.host} sends a manifest that is not valid: {error.message}"
        ) from None
