# SPDX-License-Identifier: Apache-2.0
"""What the store holds of a repository: pushed before cached, under all of its names.

The one place that knows the look-up order. A job's push wins over upstream's content by tag
because it is found first; removing the pushed tag uncovers upstream's again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from buildset_registry.errors import RegistryError
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest, stored_media_type
from buildset_registry.oci.names import Reference, RepositoryName, Tag, referrers_tag
from buildset_registry.store.base import RepositoryIndex, Store, StoredBlob

#: Media types that are remembered; past this many, all are forgotten.
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it is served: the pushed bytes and their type."""

    raw: bytes
    media_type: str
    digest: Digest


class Lookup:
    """Reading, in the order in which content wins."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._types: dict[Digest, str] = {}

    def pushed(self, name: RepositoryName) -> Iterator[RepositoryIndex]:
        """Yield what jobs pushed, under the name asked for and then under its other name."""
        for one in name.names:
            yield self._store.pushed(one)

    def all(self, name: RepositoryName) -> Iterator[RepositoryIndex]:
        """Yield what jobs pushed and then what was pulled through."""
        yield from self.pushed(name)
        yield self._store.cached(name.canonical)

    async def manifest(self, name: RepositoryName, reference: Reference) -> StoredManifest | None:
        return await self.pushed_manifest(name, reference) or await self.cached_manifest(
            name, reference
        )

    async def pushed_manifest(
        self, name: RepositoryName, reference: Reference
    ) -> StoredManifest | None:
        for index in self.pushed(name):
            found = await self._manifest(index, reference)
            if found is not None:
                return found
        return None

    async def cached_manifest(
        self, name: RepositoryName, reference: Reference
    ) -> StoredManifest | None:
        return await self._manifest(self._store.cached(name.canonical), reference)

    async def blob(self, name: RepositoryName, digest: Digest) -> StoredBlob | None:
        """Return a blob that is linked in the repository; manifests are blobs, too."""
        return await self.pushed_blob(name, digest) or await self.cached_blob(name, digest)

    async def blob_size(self, name: RepositoryName, digest: Digest) -> int | None:
        """Return the size in bytes of what ``blob`` would return; nobody is about to open it."""
        for index in self.all(name):
            if await is_linked(index, digest):
                size = await self._store.blobs.size(digest)
                if size is not None:
                    return size
                alias = await self._alias(index, digest)
                if alias is not None:
                    return alias.size
        return None

    async def pushed_blob(self, name: RepositoryName, digest: Digest) -> StoredBlob | None:
        for index in self.pushed(name):
            found = await self._blob(index, digest)
            if found is not None:
                return found
        return None

    async def cached_blob(self, name: RepositoryName, digest: Digest) -> StoredBlob | None:
        return await self._blob(self._store.cached(name.canonical), digest)

    async def is_layer_of_cached(self, name: RepositoryName, digest: Digest) -> bool:
        """Tell whether an image that was pulled through from the repository refers to a blob."""
        index = self._store.cached(name.canonical)
        targets = [await index.tags.get(tag) for tag in await index.tags.all()]
        waiting = [target.digest for target in targets if target is not None]
        while waiting:
            manifest = await self._parsed(index, waiting.pop())
            if manifest is None:
                continue
            if any(blob.digest == digest for blob in manifest.blobs):
                return True
            waiting.extend(child.digest for child in manifest.manifests)
        return False

    async def stored(self, name: RepositoryName, digest: Digest) -> Digest | None:
        """Return the digest under which content of the repository is stored, mostly its own."""
        for index in self.all(name):
            if await is_linked(index, digest):
                if await self._store.blobs.size(digest) is not None:
                    return digest
                return await index.layers.target(digest)
        return None

    async def exists(self, name: RepositoryName) -> bool:
        for index in self.all(name):
            if await index.exists():
                return True
        return False

    async def tags(self, name: RepositoryName) -> list[Sequence[Tag]]:
        """Return the sorted tags of each place that holds some; a tag may be in several."""
        return [tags for index in self.all(name) if (tags := await index.tags.all())]

    async def referrers(self, name: RepositoryName, subject: Digest) -> list[Manifest]:
        """Return the manifests whose subject is ``subject``, in the order of their digests."""
        found: dict[str, Manifest] = {}
        for index in self.all(name):
            listed = await self._listed_referrers(index, subject)
            for digest in {*await index.referrers.of(subject), *listed}:
                manifest = await self._parsed(index, digest)
                if manifest and manifest.subject and manifest.subject.digest == subject:
                    found.setdefault(str(digest), manifest)
        return [found[key] for key in sorted(found)]

    async def _listed_referrers(self, index: RepositoryIndex, subject: Digest) -> list[Digest]:
        """Return what clients of a registry without the referrers API listed under a tag.

        Such content is to be found by the API as well ("Enabling the Referrers API").
        """
        target = await index.tags.get(referrers_tag(subject))
        listed = await self._parsed(index, target.digest) if target else None
        return [one.digest for one in listed.manifests] if listed else []

    async def _parsed(self, index: RepositoryIndex, digest: Digest) -> Manifest | None:
        """Return a manifest with its links; None where it is not there or cannot be read."""
        stored = await self._manifest(index, digest)
        if stored is None:
            return None
        try:
            return Manifest.parse(stored.raw, stored.media_type, digest.algorithm)
        except RegistryError:
            return None

    async def _blob(self, index: RepositoryIndex, digest: Digest) -> StoredBlob | None:
        if await is_linked(index, digest):
            return await self._store.blobs.open(digest) or await self._alias(index, digest)
        return None

    async def _alias(self, index: RepositoryIndex, digest: Digest) -> StoredBlob | None:
        """Return content that is stored under another digest than it was pushed by."""
        target = await index.layers.target(digest)
        return None if target is None or target == digest else await self._store.blobs.open(target)

    async def _manifest(
        self, index: RepositoryIndex, reference: Reference
    ) -> StoredManifest | None:
        if isinstance(reference, Digest):
            digest = reference
        else:
            target = await index.tags.get(reference)
            if target is None:
                return None
            digest = target.digest
        if not await index.manifests.has(digest):
            return None
        raw = await self._store.blobs.read(digest)
        if raw is None:
            return None
        media_type = await index.manifests.media_type(digest) or self._told_type(digest, raw)
        return StoredManifest(raw, media_type, digest)

    def _told_type(self, digest: Digest, raw: bytes) -> str:
        """Return what the bytes tell; parsed once, since a digest's content never changes."""
        known = self._types.get(digest)
        if known is None:
            if len(self._types) >= _REMEMBERED:
                self._types.clear()
            known = self._types[digest] = stored_media_type(raw)
        return known


async def is_linked(index: RepositoryIndex, digest: Digest) -> bool:
    """Tell whether a repository has a blob, be it a layer or a manifest."""
    return await index.layers.has(digest) or await index.manifests.has(digest)


async def link_manifest(index: RepositoryIndex, manifest: Manifest) -> None:
    """Link a stored manifest in a repository, as what it is and as what refers to its subject."""
    if stored_media_type(manifest.raw) != manifest.media_type:
        await index.manifests.set_media_type(manifest.digest, manifest.media_type)
    await index.manifests.add(manifest.digest)
    if manifest.subject is not None:
        await index.referrers.add(manifest.subject.digest, manifest.digest)


async def unlink_manifest(
    index: RepositoryIndex, digest: Digest, subject: Digest | None, used_before: float
) -> bool:
    """Undo ``link_manifest`` unless the manifest was used at or after a time."""
    if not await index.manifests.expire(digest, used_before):
        return False
    if subject is not None:
        await index.referrers.remove(subject, digest)
        if await index.manifests.has(digest):  # it was pushed again meanwhile
            await index.referrers.add(subject, digest)
    return True
