# SPDX-License-Identifier: Apache-2.0
"""Pull-through: what the buildset does not have comes from upstream, once, and stays.

``lookup`` asks for it when a repository has nothing that was pushed, and says what was pulled
through before.
"""

from __future__ import annotations

from collections.abc import Sequence

from buildset_registry.auth.rights import ReadRights
from buildset_registry.lookup import Lookup
from buildset_registry.oci.descriptor import Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Reference, RepositoryName
from buildset_registry.pullthrough.blobs import ArrivingDownload, BlobCache
from buildset_registry.pullthrough.download import Pace
from buildset_registry.pullthrough.manifests import Freshness, ManifestCache
from buildset_registry.pullthrough.places import FetchPlaces
from buildset_registry.pullthrough.remote import RemoteRegistries
from buildset_registry.sources import ArrivingBlob, Asker, FixedTag, FixedTags, StoredManifest
from buildset_registry.store.base import Store, StoredBlob


class PullThrough:
    """The registries that cached content is a copy of, for ``Lookup``; close it before the store.

    By default, a tag that was pulled through holds for ever.
    """

    def __init__(
        self,
        store: Store,
        client: RemoteRegistries,
        freshness: Freshness | None = None,
        *,
        pace: Pace | None = None,
        fixed: Sequence[FixedTags] = (),
        places: FetchPlaces | None = None,
    ) -> None:
        self.counters = client.counters
        self._client = client
        lookup = Lookup(store, self, fixed)
        self._manifests = ManifestCache(store, client, lookup, freshness or Freshness())
        self._blobs = BlobCache(store, client, lookup, pace or Pace(), places or FetchPlaces())

    def serves(self, name: RepositoryName) -> bool:
        return self._client.serves(name)

    async def manifest(
        self,
        name: RepositoryName,
        reference: Reference,
        cached: StoredManifest | None,
        fixed: FixedTag | None = None,
    ) -> StoredManifest | None:
        return await self._manifests.get(name.canonical, reference, cached, fixed)

    async def describe(
        self,
        name: RepositoryName,
        reference: Reference,
        cached: StoredManifest | None,
        fixed: FixedTag | None = None,
    ) -> Descriptor | None:
        return await self._manifests.describe(name.canonical, reference, cached, fixed)

    async def blob(
        self,
        name: RepositoryName,
        digest: Digest,
        cached: StoredBlob | None,
        rights: ReadRights,
        asker: Asker | None = None,
    ) -> StoredBlob | ArrivingBlob:
        return await self._blobs.get(name.canonical, digest, cached, rights, asker)

    async def blob_size(self, name: RepositoryName, digest: Digest, rights: ReadRights) -> int:
        return await self._blobs.size(name.canonical, digest, rights)

    def arriving(self) -> list[ArrivingDownload]:
        """Return the blobs that are on their way."""
        return self._blobs.arriving()

    async def has_manifest(self, name: RepositoryName, digest: Digest) -> bool:
        """Tell whether upstream has a manifest, as far as it shows what it has."""
        return self.serves(name) and await self._manifests.is_at_upstream(name.canonical, digest)

    async def referrers(self, name: RepositoryName, subject: Digest) -> list[Descriptor]:
        return await self._manifests.referrers(name, subject)

    async def close(self) -> None:
        """Stop downloads that are under way."""
        await self._manifests.close()
        await self._blobs.close()
        await self._client.close()


__all__ = ["FetchPlaces", "Freshness", "Pace", "PullThrough"]
