# SPDX-License-Identifier: Apache-2.0
"""Blobs of upstreams: fetched once, however many clients wait, in whatever repositories.

A task, not a client, owns a transfer, so a client that leaves spoils nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

from buildset_registry.errors import RegistryError, UpstreamBusy, UpstreamFailed
from buildset_registry.lookup import Lookup, is_linked
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.pullthrough.download import Download, DownloadStream
from buildset_registry.pullthrough.singleflight import SingleFlight
from buildset_registry.store.base import BlobFile, Store
from buildset_registry.upstream.client import UpstreamClient

_log = logging.getLogger("buildset_registry.upstream")


@dataclass(frozen=True, slots=True)
class _Transfer:
    """A download, the repository it is asked for in, and all whose clients wait for it."""

    download: Download
    home: RepositoryName
    names: set[RepositoryName]


class BlobCache:
    """Blobs that were pulled through, are on their way, or are fetched now."""

    def __init__(self, store: Store, client: UpstreamClient, lookup: Lookup) -> None:
        self._store = store
        self._lookup = lookup
        self._client = client
        self._counters = client.counters
        self._sizes = SingleFlight[tuple[RepositoryName, Digest], int]()
        self._running = SingleFlight[tuple[str, Digest], None]()
        self._transfers: dict[tuple[str, Digest], _Transfer] = {}

    async def get(
        self, name: RepositoryName, digest: Digest, cached: BlobFile | None
    ) -> BlobFile | DownloadStream:
        """Return what is ``cached`` or stored, or a stream of what is arriving."""
        key = (name.host, digest)
        while True:
            transfer = self._transfers.get(key)
            if transfer is None:
                cached = cached or await self._stored_elsewhere(name, digest)
            if cached is not None:
                self._counters.hits["blob"] += 1
                return cached
            transfer = transfer or self._transfers.get(key) or self._start(name, digest)
            stream = await self._follow(transfer, name, digest)
            if stream is not None:
                return stream

    async def size(self, name: RepositoryName, digest: Digest) -> int:
        """Return the size of a blob that is not cached; upstream says it, or a transfer does."""
        transfer = self._transfers.get((name.host, digest))
        known = transfer.download.size if transfer and name in transfer.names else None
        return await self._upstream_size(name, digest) if known is None else known

    async def close(self) -> None:
        """Stop what is under way."""
        await self._sizes.close()
        await self._running.close()

    async def _stored_elsewhere(self, name: RepositoryName, digest: Digest) -> BlobFile | None:
        """Return a blob that the store has for another repository, and upstream for this one."""
        if await self._store.blobs.size(digest) is None:
            return None
        index = self._store.cached(name)
        if not await is_linked(index, digest):  # by a transfer that has just ended
            await self._upstream_size(name, digest)
            # Collection may be about to remove it, until it is told that it is wanted.
            if await self._store.blobs.keep(digest) is None:
                return None
            await index.layers.add(digest)
        return await self._store.blobs.open(digest)

    async def _upstream_size(self, name: RepositoryName, digest: Digest) -> int:
        ask = partial(self._client.blob_size, name, digest)
        try:
            return await self._sizes.join((name, digest), ask)
        except (UpstreamFailed, UpstreamBusy) as error:
            size = await self._store.blobs.size(digest)
            if size is None or not await self._lookup.is_layer_of_cached(name, digest):
                raise
            self._counters.stale += 1
            _log.warning("%s of %s is served from the store: %s", digest, name, error.message)
            return size

    def _start(self, name: RepositoryName, digest: Digest) -> _Transfer:
        key = (name.host, digest)
        source = partial(self._client.blob, name, digest)
        download = Download(digest, source, name.host, self._counters)
        transfer = self._transfers[key] = _Transfer(download, name, {name})
        self._running.begin(key, partial(self._run, key, transfer))
        return transfer

    async def _follow(
        self, transfer: _Transfer, name: RepositoryName, digest: Digest
    ) -> DownloadStream | None:
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
        self._counters.misses["blob"] += 1
        self._counters.downloads += 1

        async def link() -> None:
            linked: set[RepositoryName] = set()
            while rest := transfer.names - linked:
                name = rest.pop()
                await self._store.cached(name).layers.add(key[1])
                linked.add(name)

        try:
            await transfer.download.run(self._store.blobs, link)
        finally:
            self._counters.downloads -= 1
            del self._transfers[key]
