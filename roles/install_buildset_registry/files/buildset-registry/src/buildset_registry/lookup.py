# SPDX-License-Identifier: Apache-2.0
"""The order in which content wins: pushed, overlaid, locked, pulled through, what upstream has.

The only place that knows it. A job's push wins over upstream's content by tag because it is found
first; removing the pushed tag uncovers upstream's again. What jobs push to Docker Hub's ``app`` is
also found as ``library/app``, and the other way round.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import NamedTuple

from buildset_registry.auth.rights import NOTHING_ELSE, ReadRights
from buildset_registry.errors import RegistryError
from buildset_registry.manifest_links import is_linked
from buildset_registry.oci.descriptor import OCTETS, Descriptor, is_media_type
from buildset_registry.oci.digest import DIGEST_BYTES, Digest
from buildset_registry.oci.manifest import Manifest, stored_media_type
from buildset_registry.oci.names import Reference, RepositoryName, Tag, referrers_tag
from buildset_registry.pacing import AT_ONCE, aside
from buildset_registry.pages import CandidateReferrer, after, by_digest
from buildset_registry.parallel import together
from buildset_registry.sources import (
    ArrivingBlob,
    Asker,
    FixedTag,
    FixedTags,
    ListedTags,
    StoredManifest,
    UpstreamRegistries,
)
from buildset_registry.store.base import RepositoryIndex, Store, StoredBlob

#: Media types that are remembered; past this many, all are forgotten.
_REMEMBERED = 4096
#: Referrers of a list under a tag that one request may have looked at.
_WALKED = 10_000
#: Manifests of a repository, and bytes of them, that are searched for one that mentions a blob.
_MOST_MANIFESTS = 1000
_MOST_BYTES = 32 * 1024 * 1024


class KeptBlob(NamedTuple):
    """A blob that stays, as a client that pushes was promised."""

    stored: Digest
    """The digest under which it is stored, mostly its own."""

    size: int
    pushed: bool
    """True where it was pushed; otherwise only upstream gave it."""


class Reuse(Enum):
    """The use that may be made of stored bytes in a repository for which they did not come."""

    NONE = "none"
    READ = "read"
    """Who asks may have them."""

    LINK = "link"
    """Whoever may read the repository may have them: they may be linked there."""


class Lookup:
    """The reading of repositories, in the order in which content wins.

    Without ``upstream``, nobody is asked for what the store lacks. What tags mean there, the tables
    of ``fixed`` tags say first, in their order.
    """

    def __init__(
        self,
        store: Store,
        upstream: UpstreamRegistries | None = None,
        fixed: Sequence[FixedTags] = (),
    ) -> None:
        self._store = store
        self._upstream = upstream
        self._fixed = fixed
        # Where nobody is asked for what the store lacks, it is not there.
        through = upstream is not None
        self._listed = [one for one in fixed if through and isinstance(one, ListedTags)]
        self._types: dict[Digest, str] = {}

    def indexes(self, name: RepositoryName) -> Iterator[RepositoryIndex]:
        """Yield all that the store has of a repository; the first that holds something wins."""
        for one in name.names:
            yield self._store.pushed(one)
        yield self._store.cached(name.canonical)

    async def manifest(self, name: RepositoryName, reference: Reference) -> StoredManifest | None:
        """Return what a job pushed, or else what upstream has now or had when it was asked."""
        found = await self._manifest(map(self._store.pushed, name.names), reference)
        if found is not None:
            return found
        fixed, cached = await self._ruled(name, reference)
        upstream = self._upstream_of(name)
        if upstream is None:
            return cached
        current = await upstream.manifest(name, reference, cached, fixed)
        if current is None:
            return cached
        # A job may have pushed the tag while upstream was being asked: its push wins.
        return await self.pushed_manifest(name, reference) or current

    async def describe(self, name: RepositoryName, reference: Reference) -> Descriptor | None:
        """Describe what ``manifest`` would return; nobody is about to read it."""
        pushed = await self.pushed_manifest(name, reference)
        if pushed is not None:
            return pushed.descriptor
        fixed, cached = await self._ruled(name, reference)
        upstream = self._upstream_of(name)
        if upstream is not None:
            current = await upstream.describe(name, reference, cached, fixed)
            if current is not None:
                pushed = await self.pushed_manifest(name, reference)
                return current if pushed is None else pushed.descriptor
        return None if cached is None else cached.descriptor

    async def pushed_manifest(
        self, name: RepositoryName, reference: Reference
    ) -> StoredManifest | None:
        """Return what a job pushed."""
        return await self._manifest(map(self._store.pushed, name.names), reference)

    async def cached_manifest(
        self, name: RepositoryName, reference: Reference
    ) -> StoredManifest | None:
        """Return what was pulled through."""
        return await self._manifest([self._store.cached(name.canonical)], reference)

    async def stored_manifest(
        self, name: RepositoryName, reference: Reference
    ) -> StoredManifest | None:
        """Return what clients see at a reference now, as far as the store knows."""
        return await self._manifest(self.indexes(name), reference)

    async def stored_digest(self, name: RepositoryName, reference: Reference) -> Digest | None:
        """Return the digest of what ``stored_manifest`` would read."""
        for index in self.indexes(name):
            digest = await _linked(index, reference)
            if digest is not None and await self._store.blobs.size(digest) is not None:
                return digest
        return None

    async def blob(
        self,
        name: RepositoryName,
        digest: Digest,
        rights: ReadRights = NOTHING_ELSE,
        asker: Asker | None = None,
    ) -> StoredBlob | ArrivingBlob | None:
        """Return a blob that the repository has, here or at upstream; manifests are blobs, too."""
        found = await self._blob(map(self._store.pushed, name.names), digest)
        if found is not None:
            return found
        cached = await self._blob([self._store.cached(name.canonical)], digest)
        upstream = self._upstream_of(name)
        if upstream is None:
            return cached
        return await upstream.blob(name, digest, cached, rights, asker)

    async def blob_size(
        self, name: RepositoryName, digest: Digest, rights: ReadRights = NOTHING_ELSE
    ) -> int | None:
        """Return the size in bytes of what ``blob`` would return; nobody is about to open it."""
        for index in self.indexes(name):
            if await is_linked(index, digest):
                size = await self._store.blobs.size(digest)
                if size is not None:
                    return size
                alias = await self._alias(index, digest)
                if alias is not None:
                    return alias.size
        upstream = self._upstream_of(name)
        return None if upstream is None else await upstream.blob_size(name, digest, rights)

    async def keep(self, name: RepositoryName, digest: Digest) -> KeptBlob | None:
        """Promise that a blob which the store has of a repository stays; see ``Blobs.keep``."""
        for number, index in enumerate(self.indexes(name)):
            if await is_linked(index, digest):
                stored: Digest | None = digest
                size = await self._store.blobs.keep(digest)
                if size is None:
                    stored = await index.layers.target(digest)
                    size = None if stored is None else await self._store.blobs.keep(stored)
                if stored is None or size is None:
                    return None
                return KeptBlob(stored, size, number < len(name.names))
        return None

    async def reuse(self, name: RepositoryName, digest: Digest, rights: ReadRights) -> Reuse:
        """Tell what use a repository may make of a stored blob that others have.

        Whoever may read none of those gets nothing of it here: a digest is no secret, and an
        upstream may say that it has what it never saw. Nor does who may read it make it readable
        for others by asking for it here.
        """
        found = Reuse.READ if rights.everything else Reuse.NONE
        if rights.everything and rights.as_open(None, name):
            return Reuse.LINK
        for holder in self._store.holders.of(digest):
            if (rights.everything or rights.allow(holder)) and await self.holds(holder, digest):
                if rights.as_open(holder, name):
                    return Reuse.LINK
                found = Reuse.READ
        return found

    async def holds(self, name: RepositoryName, digest: Digest) -> bool:
        """Tell whether content is linked in a repository, by whichever of its names."""
        for index in self.indexes(name):
            if await is_linked(index, digest):
                return True
        return False

    async def is_layer_of_cached(self, name: RepositoryName, digest: Digest) -> bool:
        """Tell whether an image that was pulled through from the repository refers to a blob.

        By a tag or by its digest. The images used last are searched, up to a bound.
        """
        index = self._store.cached(name.canonical)
        wanted, left = str(digest).encode(), _MOST_BYTES
        states = sorted(await index.manifests.all(), key=lambda state: -state.used)
        for state in states[:_MOST_MANIFESTS]:
            await asyncio.sleep(0)  # other requests have their turn
            raw = await self._store.blobs.read(state.digest) or b""
            left -= len(raw)
            if left < 0:
                return False
            if wanted in raw:
                manifest = await self._parsed(index, state.digest)
                if manifest and any(blob.digest == digest for blob in manifest.blobs):
                    return True
        return False

    async def exists(self, name: RepositoryName) -> bool:
        for index in self.indexes(name):
            if await index.exists():
                return True
        return False

    async def tags(self, name: RepositoryName) -> list[Sequence[Tag]]:
        """Return the sorted tags of each place that holds some; a tag may be in several."""
        found = [tags for index in self.indexes(name) if (tags := await index.tags.all())]
        return found + [tags for table in self._listed if (tags := table.tags(name))]

    async def repositories(self) -> list[Sequence[RepositoryName]]:
        """Return the sorted repositories of each place that holds some."""
        return [await self._store.repositories(), *(one.repositories() for one in self._listed)]

    async def referrers(
        self, name: RepositoryName, subject: Digest, last: str | None = None
    ) -> AsyncGenerator[CandidateReferrer]:
        """Yield what may name a manifest as its subject, here and at upstream, by digest.

        Those up to the digest ``last`` are left out. The store is asked about some at once.
        """
        found = []
        for index in self.indexes(name):
            listed = await self._listed_referrers(index, subject)
            found.append((index, [*await index.referrers.of(subject), *listed]))
        there = await self._referrers_there(name, subject)
        length = DIGEST_BYTES * sum(len(digests) for _index, digests in found)
        here = await aside(length, partial(by_digest, found))
        candidates = await aside(length, partial(after, here.keys() | there.keys(), last or ""))

        async def look(key: str) -> Descriptor | None:
            for index in here[key]:
                told = await self._referrer(index, subject, Digest.parse(key))
                if told is not None:
                    return told
            return None

        for start in range(0, len(candidates), AT_ONCE):
            some = candidates[start : start + AT_ONCE]
            stored = [key for key in some if key in here]
            noted = dict(zip(stored, await together(stored, look), strict=True))
            await asyncio.sleep(0)  # other requests have their turn
            for key in some:
                yield CandidateReferrer(key, noted.get(key) or there.get(key), key in here)

    def serves(self, name: RepositoryName) -> bool:
        """Tell whether an upstream has been asked for a repository, or none ever is."""
        return self._upstream is None or self._upstream.serves(name)

    async def _ruled(
        self, name: RepositoryName, reference: Reference
    ) -> tuple[FixedTag | None, StoredManifest | None]:
        """Return what the first table that knows a tag says of it, and what of that is cached.

        Where no upstream is asked, as at the push endpoint, tables still rule what is cached.
        """
        cached = await self.cached_manifest(name, reference)
        if not isinstance(reference, Tag) or (cached is None and self._upstream_of(name) is None):
            return None, cached
        found = (table.find(name, reference) for table in self._fixed)
        fixed = next(filter(None, found), None)
        if fixed is None or (cached is not None and cached.digest == fixed.digest):
            return fixed, cached
        return fixed, await self.cached_manifest(name, fixed.digest)

    def _upstream_of(self, name: RepositoryName) -> UpstreamRegistries | None:
        upstream = self._upstream
        return upstream if upstream is not None and upstream.serves(name) else None

    async def _listed_referrers(self, index: RepositoryIndex, subject: Digest) -> list[Digest]:
        """Return what clients of a registry without the referrers API listed under a tag.

        Such content is to be found by the API as well ("Enabling the Referrers API").
        """
        target = await index.tags.get(referrers_tag(subject))
        listed = await self._parsed(index, target.digest) if target else None
        return [one.digest for one in listed.manifests[:_WALKED]] if listed else []

    async def _referrers_there(
        self, name: RepositoryName, subject: Digest
    ) -> dict[str, Descriptor]:
        """Return what upstream lists, each of its digests once."""
        upstream = self._upstream_of(name)
        listed = [] if upstream is None else await upstream.referrers(name, subject)
        return {str(one.digest): one for one in reversed(listed)}

    async def _referrer(
        self, index: RepositoryIndex, subject: Digest, digest: Digest
    ) -> Descriptor | None:
        """Return what a list says of a referrer, as it was noted when it came.

        A store of distribution, or of an older release, has no note: it is made then.
        """
        if not await index.manifests.has(digest) or await self._store.blobs.size(digest) is None:
            return None
        noted = await index.referrers.noted(subject, digest)
        if noted is not None:
            return noted
        manifest = await self._parsed(index, digest)
        if manifest is None or manifest.subject is None or manifest.subject.digest != subject:
            return None
        with suppress(OSError, RegistryError):  # a full disk is no reason to list nothing
            await index.referrers.note(subject, digest, manifest.listed)
        return manifest.listed

    async def _parsed(self, index: RepositoryIndex, digest: Digest) -> Manifest | None:
        """Return a manifest with its links; None where it is not there."""
        stored = await self._manifest([index], digest)
        if stored is None:
            return None
        read = partial(Manifest.stored, stored.raw, stored.media_type, digest.algorithm)
        return await aside(len(stored.raw), read)

    async def _blob(self, indexes: Iterable[RepositoryIndex], digest: Digest) -> StoredBlob | None:
        for index in indexes:
            if await is_linked(index, digest):
                found = await self._store.blobs.open(digest) or await self._alias(index, digest)
                if found is not None:
                    return found
        return None

    async def _alias(self, index: RepositoryIndex, digest: Digest) -> StoredBlob | None:
        """Return content that is stored under another digest than it was pushed by."""
        target = await index.layers.target(digest)
        return None if target is None or target == digest else await self._store.blobs.open(target)

    async def _manifest(
        self, indexes: Iterable[RepositoryIndex], reference: Reference
    ) -> StoredManifest | None:
        for index in indexes:
            digest = await _linked(index, reference)
            raw = None if digest is None else await self._store.blobs.read(digest)
            if digest is not None and raw is not None:
                kept = await index.manifests.media_type(digest)
                if kept is not None and not is_media_type(kept):
                    kept = OCTETS  # it was taken in by older rules, and cannot be a header
                return StoredManifest(raw, kept or self._told_type(digest, raw), digest)
        return None

    def _told_type(self, digest: Digest, raw: bytes) -> str:
        """Return what the bytes tell; parsed once, since a digest's content never changes."""
        known = self._types.get(digest)
        if known is None:
            if len(self._types) >= _REMEMBERED:
                self._types.clear()
            known = self._types[digest] = stored_media_type(raw)
        return known


async def _linked(index: RepositoryIndex, reference: Reference) -> Digest | None:
    """Return the manifest that a repository has at a reference."""
    digest: Digest | None
    if isinstance(reference, Digest):
        digest = reference
    else:
        target = await index.tags.get(reference)
        digest = None if target is None else target.digest
    return digest if digest is not None and await index.manifests.has(digest) else None
