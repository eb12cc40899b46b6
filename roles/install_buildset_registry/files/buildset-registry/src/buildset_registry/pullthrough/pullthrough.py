# SPDX-License-Identifier: Apache-2.0
"""Everything that an endpoint asks of pull-through."""

from __future__ import annotations

import time
from collections.abc import Callable

from buildset_registry.lookup import StoredManifest
from buildset_registry.oci.descriptor import Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Reference, RepositoryName
from buildset_registry.pullthrough.blobs import BlobCache
from buildset_registry.pullthrough.download import BlobStream
from buildset_registry.pullthrough.manifests import ManifestCache
from buildset_registry.store.base import Store, StoredBlob
from buildset_registry.upstream.client import UpstreamClient


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
        self._client = client
        self._manifests = ManifestCache(store, client, tag_seconds, clock)
        self._blobs = BlobCache(store, client)

    def serves(self, name: RepositoryName) -> bool:
        """Tell whether an upstream is configured for the repository."""
        return self._client.serves(name)

    async def manifest(self, name: RepositoryName, reference: Reference) -> StoredManifest:
        """Return what a job pushed, or else what upstream has now or had when it was asked."""
        return await self._manifests.get(name, reference)

    async def referrers(self, name: RepositoryName, subject: Digest) -> list[Descriptor]:
        """Return what upstream lists as referring to a manifest."""
        return await self._manifests.referrers(name, subject)

    async def blob(self, name: RepositoryName, digest: Digest) -> StoredBlob | BlobStream:
        """Return a stored blob, or a stream of one that is arriving."""
        return await self._blobs.get(name, digest)

    async def blob_size(self, name: RepositoryName, digest: Digest) -> int:
        """Return the size of a blob that is not held."""
        return await self._blobs.size(name, digest)

    async def close(self) -> None:
        """Stop transfers that are under way."""
        await self._manifests.close()
        await self._blobs.close()
        await self._client.close()
