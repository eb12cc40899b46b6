# SPDX-License-Identifier: Apache-2.0
"""Blobs of upstreams: fetched once, however many clients wait, in whatever repositories.

A task, not a client, owns a transfer, so a client that leaves spoils nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

from buildset_registry.errors import RegistryError, UpstreamBusy, UpstreamFailed
from buildset_registry.lookup import Lookup
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.pullthrough.download import BlobStream, Download
from buildset_registry.pullthrough.singleflight import SingleFlight
from buildset_registry.store.base import Store, StoredBlob
from buildset_registry.upstream.client import UpstreamClient

_log = logging.getLogger("buildset_registry.upstream")


@dataclass(frozen=True, slots=True)
class _Transfer:
    """A download, the repository it is asked for in, and all whose clients wait for it."""

    download: Download
    home: RepositoryName
    names: set[RepositoryName]


class BlobCache:
    """What is pushed, cached, on its way, or at upstream, in this order."""

    def __init__(self, store: Store, client: UpstreamClient) -> None:
        self._store = store
        self._lookup = Lookup(store)
        self._client = client
        self._counters = client.counters
        self._sizes = SingleFlight[tuple[RepositoryName, Digest], int]()
        self._running = SingleFlight[tuple[str, Digest], None]()
        self._transfers: dict[tuple[str, Digest], _Transfer] = {}

    async def get(self, name: RepositoryName, digest: Digest) -> StoredBlob | BlobStream:
        """Return a stored blob, or a stream of one that is arriving."""
        pushed = await self._lookup.pushed_blob(name, digest)
        if pushed is not None:
            return pushed
        name = name.canonical
        while True:
            transfer = self._transfers.get((name.host, digest))
            if transfer is None:
                held = await self._held_blob(name, digest)
                if held is not None:
                    self._counters.hits["blob"] += 1
                    return held
                transfer = self._transfers.get((name.host, digest)) or self._start(name, digest)
            stream = await self._follow(transfer, name, digest)
            if stream is not None:
                return stream

    async def size(self, name: RepositoryName, digest: Digest) -> int:
        """Return the size of a blob that is not held; upstream says it, or a transfer does."""
        name = name.canonical
        transfer = self._transfers.get((name.host, digest))
        known = transfer.download.size if transfer and name in transfer.names else None
        return await self._upstream_size(name, digest) if known is None else known

    async def close(self) -> None:
        """Stop what is under way."""
        await self._sizes.close()
        await self._running.close()

    async def _held_blob(self, name: RepositoryName, digest: Digest) -> StoredBlob | None:
        """Return a blob that was pulled through, or that the store has and upstream here, too."""
        held = await self._lookup.cached_blob(name, digest)
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
        self._counters.misses["blob"] += 1
        self._counters.downloads += 1

        async def link() -> None:
            linked: set[RepositoryName] = set()
            while rest := transfer.names - linked:
                name = rest.pop()
                await self._store.cached(name).layers.add(key[1])
                linked.add(name)

        try:
            await transfer.download.run(self._store.uploads, link)
        finally:
            self._counters.downloads -= 1
            del self._transfers[key]
