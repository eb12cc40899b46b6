# SPDX-License-Identifier: Apache-2.0
"""Blobs of upstreams: fetched once, however many clients wait, in whatever repositories they may
read.

A task, not a client, owns a download, so a client that leaves spoils nothing. Once it has failed,
the next client starts another.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from buildset_registry.auth.rights import ReadRights
from buildset_registry.errors import RegistryError, UpstreamBusy, UpstreamFailed
from buildset_registry.lookup import Lookup, Reuse
from buildset_registry.manifest_links import is_linked
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.pullthrough.download import Download, DownloadStream, Pace
from buildset_registry.pullthrough.places import FetchPlaces, client_of
from buildset_registry.pullthrough.remote import RemoteBlobs
from buildset_registry.pullthrough.singleflight import SingleFlight
from buildset_registry.sources import Asker
from buildset_registry.store.base import Store, StoredBlob

_log = logging.getLogger("buildset_registry.upstream")


@dataclass(frozen=True, slots=True)
class _SharedDownload:
    """A download, and the repositories whose clients wait for it."""

    download: Download
    home: RepositoryName
    """The one in which upstream was asked for it."""

    names: set[RepositoryName]

    def open_to(self, name: RepositoryName, rights: ReadRights) -> bool:
        """Tell whether a repository in which somebody asks for it may have these bytes."""
        if name in self.names or (rights.everything and rights.as_open(None, name)):
            return True
        return any(rights.allow(one) and rights.as_open(one, name) for one in self.names)


class ArrivingDownload(NamedTuple):
    """A blob that is on its way, as it can be told from outside."""

    name: RepositoryName
    """The repository for which upstream was asked."""

    digest: Digest
    size: int | None
    received: int


#: A download that any repository of a registry may share has the registry's name; one that others
#: may not read has that of its repository, too.
_Key = tuple[str, Digest]


class BlobCache:
    """Blobs that were pulled through, are on their way, or are fetched now."""

    def __init__(
        self,
        store: Store,
        client: RemoteBlobs,
        lookup: Lookup,
        pace: Pace,
        places: FetchPlaces,
    ) -> None:
        self._store = store
        self._lookup = lookup
        self._client = client
        self._pace = pace
        self._places = places
        self._counters = client.counters
        self._sizes = SingleFlight[tuple[RepositoryName, Digest], int]()
        self._downloads: dict[_Key, _SharedDownload] = {}

    async def get(
        self,
        name: RepositoryName,
        digest: Digest,
        cached: StoredBlob | None,
        rights: ReadRights,
        asker: Asker | None = None,
    ) -> StoredBlob | DownloadStream:
        """Return what is ``cached`` or stored, or a stream of what is arriving.

        Where as many are fetched as may be, and not this one, ``asker`` waits until it may be.
        """
        client, mine = client_of(asker), False
        stream: DownloadStream | None = None
        try:
            while stream is None:
                key = self._key(name, digest, rights)
                if key not in self._downloads:
                    cached = cached or await self._stored_elsewhere(name, digest, rights)
                if cached is not None:
                    self._counters.hits["blob"] += 1
                    return cached
                key = self._key(name, digest, rights)
                shared = self._downloads.get(key)
                if shared is None:
                    if not mine and not self._places.take(client):
                        mine = await self._places.wait(key, asker)
                        continue
                    shared = self._start(key, name, client)
                elif mine:
                    self._places.give_back(client)
                mine = False
                stream = await self._follow(key, shared, name, rights)
            return stream
        finally:
            if mine:
                self._places.give_back(client)

    async def size(self, name: RepositoryName, digest: Digest, rights: ReadRights) -> int:
        """Return the size of a blob that is not cached; upstream says it, or a download does."""
        shared = self._downloads.get(self._key(name, digest, rights))
        known = shared.download.size if shared and name in shared.names else None
        return await self._upstream_size(name, digest, rights) if known is None else known

    def arriving(self) -> list[ArrivingDownload]:
        """Return what is on its way."""
        return [
            ArrivingDownload(one.home, key[1], one.download.size, one.download.received)
            for key, one in self._downloads.items()
        ]

    async def close(self) -> None:
        """Stop what is under way."""
        await self._sizes.close()
        await self._places.close()

    def _key(self, name: RepositoryName, digest: Digest, rights: ReadRights) -> _Key:
        """Return the key of the download that somebody may join, or start."""
        shared = self._downloads.get((name.host, digest))
        if shared is None or shared.open_to(name, rights):
            return name.host, digest
        return f"{name.host}/{name}", digest

    async def _stored_elsewhere(
        self, name: RepositoryName, digest: Digest, rights: ReadRights
    ) -> StoredBlob | None:
        """Return a blob that the store has for another repository, and upstream for this one.

        None where that one may not be read by who asks: then upstream has to send the bytes. One of
        another size than upstream's is damaged, and fetched again.
        """
        if await self._store.blobs.size(digest) is None:
            return None
        index = self._store.cached(name)
        if not await is_linked(index, digest):  # by a download that has just ended
            reuse = await self._lookup.reuse(name, digest, rights)
            if reuse is Reuse.NONE:
                return None
            size = await self._upstream_size(name, digest, rights)
            # Collection may be about to remove it, until it is told that it is wanted.
            if await self._store.blobs.keep(digest, promised=False) != size:
                return None
            if reuse is Reuse.LINK:
                await self._link_here(name, digest)
        return await self._store.blobs.open(digest)

    async def _link_here(self, name: RepositoryName, digest: Digest) -> None:
        """Link what is stored; where that cannot be written, it is served all the same."""
        try:
            await self._store.cached(name).layers.add(digest)
        except OSError as error:
            _log.warning("%s cannot be linked in %s: %s", digest, name, error)

    async def _upstream_size(self, name: RepositoryName, digest: Digest, rights: ReadRights) -> int:
        """Ask upstream; where that fails, a manifest that it sent tells what the repository has."""
        ask = partial(self._client.blob_size, name, digest)
        try:
            return await self._sizes.join((name, digest), ask)
        except (UpstreamFailed, UpstreamBusy) as error:
            size = await self._store.blobs.size(digest)
            if size is None or await self._lookup.reuse(name, digest, rights) is Reuse.NONE:
                raise
            if not await self._lookup.is_layer_of_cached(name, digest):
                raise
            self._counters.stale += 1
            _log.warning("%s of %s is served from the store: %s", digest, name, error.message)
            return size

    def _start(self, key: _Key, name: RepositoryName, client: str) -> _SharedDownload:
        """Begin a download in the place that a client has taken."""
        digest = key[1]
        source = partial(self._client.blob, name, digest)
        download = Download(digest, source, name.host, self._counters, self._pace)
        shared = self._downloads[key] = _SharedDownload(download, name, {name})
        link, forget = partial(self._link, shared, digest), partial(self._downloads.pop, key)
        run = partial(download.run, self._store.uploads, link, forget)
        self._places.begin(key, client, run)
        return shared

    async def _follow(
        self, key: _Key, shared: _SharedDownload, name: RepositoryName, rights: ReadRights
    ) -> DownloadStream | None:
        """Attach a client; None where it has to look again, since the download has ended."""
        if name not in shared.names:
            # It is on its way for another repository; whether this one has it, upstream tells.
            await self._check_upstream_has(name, key[1], rights)
            if self._downloads.get(key) is not shared:
                return None
            shared.names.add(name)
        try:
            return await shared.download.stream()
        except RegistryError:
            if shared.home == name:
                raise
            return None

    async def _check_upstream_has(
        self, name: RepositoryName, digest: Digest, rights: ReadRights
    ) -> None:
        """Ask upstream, or a manifest that it sent: some tell the size of no blob."""
        try:
            await self._upstream_size(name, digest, rights)
        except (UpstreamFailed, UpstreamBusy):
            if not await self._lookup.is_layer_of_cached(name, digest):
                raise

    async def _link(self, shared: _SharedDownload, digest: Digest) -> None:
        """Link a blob in all repositories whose clients wait for it, also those that come now."""
        linked: set[RepositoryName] = set()
        while rest := shared.names - linked:
            name = rest.pop()
            await self._store.cached(name).layers.add(digest)
            linked.add(name)
