# SPDX-License-Identifier: Apache-2.0
"""Pull-through: what the buildset does not have comes from upstream, once, and stays.

However many clients wait for a manifest or a blob, upstream is asked once: they share a task. The
task, not a client, owns the transfer, so a client that leaves spoils nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

from buildset_registry.download import BlobStream, Download
from buildset_registry.holdings import Holdings, StoredManifest, link_manifest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest
from buildset_registry.oci.names import Reference, RepositoryName, Tag
from buildset_registry.store.base import BlobFile, Store
from buildset_registry.upstream.client import UpstreamClient

_Result = TypeVar("_Result")


class PullThrough:
    """Ask upstream for what the store lacks; close it before the store."""

    def __init__(self, store: Store, client: UpstreamClient) -> None:
        self._store = store
        self._holdings = Holdings(store)
        self._client = client
        self._manifests: dict[tuple[RepositoryName, Reference], asyncio.Task[StoredManifest]] = {}
        self._downloads: dict[tuple[RepositoryName, Digest], Download] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def serves(self, name: RepositoryName) -> bool:
        """Tell whether an upstream is configured for the repository."""
        return self._client.serves(name)

    async def manifest(self, name: RepositoryName, reference: Reference) -> StoredManifest:
        """Return what the store holds, or else upstream's; a tag stays what it was at first."""
        held = await self._holdings.manifest(name, reference)
        if held is not None:
            return held
        key = (name.canonical, reference)
        task = self._manifests.get(key)
        if task is None:
            task = self._manifests[key] = self._spawn(self._fetch_manifest(*key))
            task.add_done_callback(lambda _: self._manifests.pop(key, None))
        fetched = await asyncio.shield(task)
        # A job may have pushed the tag while upstream was being asked: its push wins.
        return await self._holdings.pushed_manifest(name, reference) or fetched

    async def blob(self, name: RepositoryName, digest: Digest) -> BlobFile | BlobStream:
        """Return a stored blob, or a stream of one that is arriving."""
        name = name.canonical
        download = self._downloads.get((name, digest))
        if download is None and await self._store.blobs.size(digest) is not None:
            # Another repository holds it; upstream tells whether this one has it, too.
            await self._client.blob_size(name, digest)
            await self._store.cached(name).layers.add(digest)
            held = await self._store.blobs.open(digest)
            if held is not None:
                return held
        download = self._downloads.get((name, digest)) or self._start(name, digest)
        return await download.stream()

    async def blob_size(self, name: RepositoryName, digest: Digest) -> int:
        return await self._client.blob_size(name.canonical, digest)

    async def close(self) -> None:
        """Stop transfers that are under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    def _start(self, name: RepositoryName, digest: Digest) -> Download:
        download = Download(digest, partial(self._client.blob, name, digest))
        self._downloads[name, digest] = download
        self._spawn(self._run(name, digest, download))
        return download

    async def _run(self, name: RepositoryName, digest: Digest, download: Download) -> None:
        """Run a download; once it has failed, the next client starts another."""
        try:
            link = partial(self._store.cached(name).layers.add, digest)
            await download.run(self._store.blobs, link)
        finally:
            del self._downloads[name, digest]

    async def _fetch_manifest(self, name: RepositoryName, reference: Reference) -> StoredManifest:
        remote = await self._client.manifest(name, reference)
        manifest = Manifest.parse(remote.raw, remote.media_type, remote.digest.algorithm)
        index = self._store.cached(name)
        await self._store.blobs.put(manifest.digest, remote.raw)
        await link_manifest(index, manifest)
        if isinstance(reference, Tag):
            await index.tags.set(reference, manifest.digest)
        return StoredManifest(remote.raw, manifest.media_type, manifest.digest)

    def _spawn(self, work: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
