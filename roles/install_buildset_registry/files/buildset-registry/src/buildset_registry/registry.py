# SPDX-License-Identifier: Apache-2.0
"""The use cases of the distribution specification in its own words; no HTTP, no paths."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from buildset_registry.auth.rights import NOTHING_ELSE, ReadRights
from buildset_registry.errors import (
    BlobUnknown,
    Denied,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestUnknown,
    NameUnknown,
    UpstreamBusy,
    UpstreamFailed,
)
from buildset_registry.image_tree import ImageTrees
from buildset_registry.latest import Latest
from buildset_registry.lookup import Lookup, Reuse
from buildset_registry.manifest_links import delete_links, link_image, retire, stands
from buildset_registry.oci.descriptor import Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import MAX_MANIFEST, Manifest
from buildset_registry.oci.names import Reference, RepositoryName, Tag, UploadId
from buildset_registry.pacing import aside, paced, spread
from buildset_registry.pages import Page, ReferrersList
from buildset_registry.retention import Removals
from buildset_registry.sources import (
    ArrivingBlob,
    Asker,
    FixedTags,
    StoredManifest,
    UpstreamRegistries,
)
from buildset_registry.store.base import RepositoryIndex, Store, StoredBlob, Upload

#: What was listed as referring to images: clients ask for it next.
_REMEMBERED = 4096

#: How often a push is done again that a removal at another replica has undone.
_AGAIN = 3

#: Raise unless a reference may change that points there now.
Admit = Callable[[Digest | None], None]


@dataclass(frozen=True, slots=True)
class PushTerms:
    """The terms on which a manifest is taken in."""

    admit: Admit | None = None
    """Decides on the first reference."""

    subjects: frozenset[Reference] | None = None
    """Images of the repository that it may refer to, with all that belongs to them; None: any."""

    asker: Asker | None = None
    """Who pushes it, for whom its blobs are fetched that only an upstream has."""


_ANY_TERMS = PushTerms()


class Registry:
    """One endpoint's view of the store.

    ``upstream`` is absent where nobody else is asked; ``sparse`` lets manifests in whose blobs are
    not here; ``fixed`` are tables of what upstream's tags mean; ``removals`` tell why something
    that was here is gone.
    """

    def __init__(
        self,
        store: Store,
        upstream: UpstreamRegistries | None = None,
        *,
        sparse: bool = False,
        fixed: Sequence[FixedTags] = (),
        removals: Removals | None = None,
    ) -> None:
        self._store = store
        self._removals = removals
        self._lookup = Lookup(store, upstream, fixed)
        self._trees = ImageTrees(store)
        self._listed: Latest[tuple[RepositoryName, Digest], Digest] = Latest(_REMEMBERED)
        self._sparse = sparse

    # -- pull

    async def manifest(self, name: RepositoryName, reference: Reference) -> StoredManifest:
        found = await self._lookup.manifest(name, reference)
        if found is None:
            raise await self._unknown(name, reference)
        return found

    async def describe(
        self, name: RepositoryName, reference: Reference, *, pushed: bool = False
    ) -> Descriptor:
        """Describe a manifest without fetching it; with ``pushed``, only one that was pushed."""
        if pushed:
            stored = await self._lookup.pushed_manifest(name, reference)
            found = None if stored is None else stored.descriptor
        else:
            found = await self._lookup.describe(name, reference)
        if found is None:
            raise await self._unknown(name, reference)
        return found

    async def blob(
        self,
        name: RepositoryName,
        digest: Digest,
        rights: ReadRights = NOTHING_ELSE,
        asker: Asker | None = None,
    ) -> StoredBlob | ArrivingBlob:
        """Return a blob; ``rights`` are those of ``asker``, who is given what they cover only."""
        found = await self._lookup.blob(name, digest, rights, asker)
        if found is None:
            raise BlobUnknown(f"{name} has no blob {digest}{self._unserved(name)}")
        return found

    async def blob_size(
        self, name: RepositoryName, digest: Digest, rights: ReadRights = NOTHING_ELSE
    ) -> int:
        """Return the size of a blob in bytes without fetching it."""
        size = await self._lookup.blob_size(name, digest, rights)
        if size is None:
            raise BlobUnknown(f"{name} has no blob {digest}{self._unserved(name)}")
        return size

    async def promised_size(self, name: RepositoryName, digest: Digest) -> int:
        """Return the size of a blob to a client that pushes, and leaves out what is here.

        A blob that only upstream gave becomes part of what was pushed, out of eviction's reach.
        """
        kept = await self._lookup.keep(name, digest)
        if kept is None:
            raise BlobUnknown(f"{name} has no blob {digest}{self._unserved(name)}")
        if not kept.pushed:
            await self._store.pushed(name).layers.add(digest, kept.stored)
        return kept.size

    # -- discover

    async def tags(self, name: RepositoryName, limit: int | None, last: str | None) -> Page:
        tags = await self._lookup.tags(name)
        if not tags and not await self._lookup.exists(name):
            raise NameUnknown(f"there is no repository {name}{self._unserved(name)}")
        return Page.of(tags, limit, last)

    async def repositories(self, limit: int | None, last: str | None) -> Page:
        return Page.of(await self._lookup.repositories(), limit, last)

    async def referrers(
        self,
        name: RepositoryName,
        subject: Digest,
        artifact_type: str | None = None,
        last: str | None = None,
    ) -> ReferrersList:
        """List what names a manifest as its subject, here and at upstream, after ``last``.

        A list is an index, and ends where an index is as large as a manifest may be, or where the
        store was asked about many.
        """
        page = ReferrersList(artifact_type)
        async with aclosing(self._lookup.referrers(name, subject, last)) as found:
            async for candidate in found:
                if not page.add(candidate):
                    break
                if candidate.listed is not None:
                    self._listed[name, candidate.listed.digest] = subject
        return page

    # -- look

    async def stored_manifest(
        self, name: RepositoryName, reference: Reference
    ) -> StoredManifest | None:
        """Return what the store has, without asking anybody else."""
        return await self._lookup.stored_manifest(name, reference)

    async def reaches(
        self, name: RepositoryName, images: Collection[Reference], wanted: Reference
    ) -> bool:
        """Tell whether something is one of a repository's images, belongs to or refers to one.

        What a list has that was shown here may be at upstream alone: clients come for it next.
        """
        if wanted in images:
            return True
        indexes = tuple(self._lookup.indexes(name))
        subject = None if isinstance(wanted, Tag) else self._listed.get((name, wanted))
        # Digests first: tags are looked up one by one, up to the one that means what is wanted.
        for kind in (Digest, Tag):
            roots: list[Digest] = []
            async for image in paced(one for one in images if isinstance(one, kind)):
                root = await self._target(name, image)
                if root == wanted:
                    return True
                roots += [] if root is None else [root]
            for one in (wanted, subject):
                if one and await self._trees.holds(indexes, roots, one, name):
                    return True
        return False

    async def stored_content(self, name: RepositoryName, digest: Digest) -> bytes | None:
        """Return a small blob of the repository, such as a configuration, if it is stored."""
        size = await self._store.blobs.size(digest)
        if size is None or size > MAX_MANIFEST or not await self._lookup.holds(name, digest):
            return None
        return await self._store.blobs.read(digest)

    # -- push

    async def start_upload(self, name: RepositoryName) -> Upload:
        return await self._store.uploads.create(name)

    async def upload(self, name: RepositoryName, upload_id: UploadId) -> Upload:
        return await self._store.uploads.resume(name, upload_id)

    async def finish_upload(self, name: RepositoryName, upload: Upload, digest: Digest) -> None:
        await upload.commit(digest)
        await self._store.pushed(name).layers.add(digest)

    async def is_finished(
        self,
        name: RepositoryName,
        digest: Digest,
        *,
        elsewhere: int | None = None,
        size: int | None = None,
    ) -> bool:
        """Tell whether somebody has finished an upload of a blob, and promise that it stays.

        Only where there may be replicas, since a proxy may ask a second one. If ``elsewhere``, by
        another process, to which a session of which nothing has arrived is the same as one that has
        ended: so many bytes came here, and are its end only. ``size`` is what the client told.
        """
        if self._store.space.replicas is None:
            return False
        if not await self._store.pushed(name).layers.has(digest):
            return False
        found = await self._store.blobs.keep(digest)
        return (
            found is not None and size in (None, found) and (elsewhere is None or found > elsewhere)
        )

    async def mount(
        self,
        name: RepositoryName,
        digest: Digest,
        source: RepositoryName | None,
        rights: ReadRights,
    ) -> bool:
        """Link a blob that another repository has; without ``source``, any one may have it.

        A mount shows the content: what ``rights`` do not cover is not mounted.
        """
        stored = None
        if source is not None:
            kept = await self._lookup.keep(source, digest) if rights.allow(source) else None
            stored = None if kept is None else kept.stored
        elif await self._lookup.reuse(name, digest, rights) is not Reuse.NONE:
            stored = None if await self._store.blobs.keep(digest) is None else digest
        if stored is not None:
            await self._store.pushed(name).layers.add(digest, stored)
        return stored is not None

    async def push_manifest(
        self,
        name: RepositoryName,
        references: Sequence[Reference],
        raw: bytes,
        content_type: str = "",
        *,
        terms: PushTerms = _ANY_TERMS,
    ) -> Manifest:
        """Store a manifest whose blobs are all here, then let the tags point to it.

        What an index lists may be missing: an index of more platforms than somebody mirrors is
        sparse, and buildkit's caches list layers as if they were manifests.
        """
        wanted = [one for one in references if isinstance(one, Digest)]
        algorithm = wanted[0].algorithm if wanted else "sha256"
        parse = partial(Manifest.parse, raw, content_type, algorithm)
        manifest = await aside(len(raw), parse)
        if any(digest != manifest.digest for digest in wanted):
            raise DigestInvalid(f"manifest is {manifest.digest}, not {wanted[0]}")
        await self._check_subject(name, manifest, terms.subjects)
        admit = terms.admit
        if admit is not None:
            admit(await self._target(name, references[0]))
        index = self._store.pushed(name)
        require = partial(self._require, index, name, asker=terms.asker)
        await spread(manifest.blobs, lambda blob: require(blob.digest))
        tags = [one for one in references if isinstance(one, Tag)]
        async with self._store.turns.manifest(name, manifest.digest, tags):
            if admit is not None:
                admit(await self._target(name, references[0]))
            await self._publish(index, manifest, tags)
        return manifest

    async def _check_subject(
        self, name: RepositoryName, manifest: Manifest, images: frozenset[Reference] | None
    ) -> None:
        """Raise ``Denied`` where a manifest refers to what belongs to none of some images."""
        if images is None or manifest.subject is None:
            return
        subject = manifest.subject.digest
        if not await self.reaches(name, images, subject):
            raise Denied(f"this token is not one to push what refers to {subject} in {name}")

    async def _publish(
        self, index: RepositoryIndex, manifest: Manifest, tags: Sequence[Tag]
    ) -> None:
        """Store a manifest whose turn it is, and let the tags point to it."""
        await spread(manifest.manifests, lambda listed: index.manifests.use(listed.digest))
        await self._store.blobs.put(manifest.digest, manifest.raw)
        await link_image(index, manifest, tags)
        if self._store.space.replicas is None:
            return
        for _again in range(_AGAIN):
            if await stands(index, manifest.digest, tags):
                return
            await link_image(index, manifest, tags)

    # -- delete

    async def delete_manifest(
        self, name: RepositoryName, digest: Digest, *, admit: Admit | None = None
    ) -> None:
        """Forget a manifest and the tags that point to it."""
        async with self._store.turns.manifest(name, digest):
            stored = await self._lookup.stored_manifest(name, digest)
            if stored is None:
                raise ManifestUnknown(f"{name} has no manifest {digest}")
            if admit is not None:
                admit(digest)
            subject = stored.subject
            for index in self._lookup.indexes(name):
                await delete_links(self._store, name, index, digest, subject)

    async def delete_tag(
        self, name: RepositoryName, tag: Tag, *, admit: Admit | None = None
    ) -> None:
        """Remove the tag that is seen; one of upstream's below it is seen again afterwards."""
        async with self._store.turns.tag(name, tag):
            current = await self._target(name, tag)
            if admit is not None and current is not None:
                admit(current)
            for index in self._lookup.indexes(name):
                await retire(index, tag)
                if await index.tags.remove(tag):
                    return
        raise ManifestUnknown(f"{name} has no tag {tag}")

    async def delete_blob(self, name: RepositoryName, digest: Digest) -> None:
        removed = [await index.layers.remove(digest) for index in self._lookup.indexes(name)]
        if not any(removed):
            raise BlobUnknown(f"{name} has no blob {digest}{self._unserved(name)}")

    async def _unknown(self, name: RepositoryName, reference: Reference) -> ManifestUnknown:
        """Return the refusal of what is not here, or not any more."""
        told = "" if self._removals is None else await self._removals.told(name, reference)
        return ManifestUnknown(f"{name} has no manifest {reference}{self._unserved(name)}{told}")

    def _unserved(self, name: RepositoryName) -> str:
        """Return what a message adds where a registry might be asked, and is not configured."""
        return "" if self._lookup.serves(name) else f"; {name.host} is no upstream of this registry"

    async def _target(self, name: RepositoryName, reference: Reference) -> Digest | None:
        """Return what clients see at a reference now."""
        return await self._lookup.stored_digest(name, reference)

    async def _require(
        self, index: RepositoryIndex, name: RepositoryName, digest: Digest, *, asker: Asker | None
    ) -> None:
        """Make sure that a pushed manifest's blob is here and stays, linked as pushed itself."""
        if await index.layers.has(digest) and await self._store.blobs.keep(digest) is not None:
            return
        try:
            blob = await self.blob(name, digest, asker=asker)
            if isinstance(blob, ArrivingBlob):
                await blob.complete()
            kept = await self._lookup.keep(name, digest)
        except (BlobUnknown, UpstreamFailed, UpstreamBusy):
            kept = None
        if kept is not None:
            await index.layers.add(digest, kept.stored)
        elif not self._sparse:
            raise ManifestBlobUnknown(
                f"{name} has no blob {digest}; push the blob before the manifest",
                detail={"digest": str(digest)},
            )
