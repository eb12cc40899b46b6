# SPDX-License-Identifier: Apache-2.0
"""The sources that ``lookup`` asks besides the store: tables of fixed tags, and upstreams.

Values and protocols only; ``pullthrough`` and ``image_lock`` are such sources.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from buildset_registry.auth.rights import ReadRights
from buildset_registry.oci.descriptor import Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest
from buildset_registry.oci.names import Reference, RepositoryName, Tag
from buildset_registry.store.base import StoredBlob


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it is served: the pushed bytes and their type."""

    raw: bytes
    media_type: str
    digest: Digest

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, len(self.raw))

    @property
    def subject(self) -> Digest | None:
        """What it names as its subject; a damaged one has none, and can be deleted all the same."""
        subject = Manifest.stored(self.raw, self.media_type).subject
        return None if subject is None else subject.digest


@runtime_checkable
class ArrivingBlob(Protocol):
    """A blob that can be read while it is on its way into the store."""

    @property
    def size(self) -> int:
        """Return its size in bytes."""

    def chunks(self, start: int, end: int) -> AsyncGenerator[bytes]:
        """Yield the bytes from ``start`` up to ``end``, as they come."""

    async def complete(self) -> None:
        """Wait until it is stored."""


class FixedTag(NamedTuple):
    """The manifest that a tag means, and what says so, in words."""

    digest: Digest
    fixed_by: str


class FixedTags(Protocol):
    """Tags that mean what a table says, whatever upstream has."""

    def find(self, name: RepositoryName, tag: Tag) -> FixedTag | None:
        """Return what a tag means; None where the table leaves that to whom is asked next.

        ``ManifestUnknown`` where nobody else may be asked.
        """


@runtime_checkable
class ListedTags(FixedTags, Protocol):
    """Fixed tags that lists show beside those of the store."""

    def tags(self, name: RepositoryName) -> Sequence[Tag]:
        """Return the tags of a repository, sorted."""

    def repositories(self) -> Sequence[RepositoryName]:
        """Return the repositories, sorted."""


class Asker(Protocol):
    """The client of a request, as what may have it wait knows it."""

    @property
    def client(self) -> str:
        """Return the address that it comes from."""

    def watch(self) -> asyncio.Future[None]:
        """Return what fails once the client has left, and ends in no other way."""


class UpstreamRegistries(Protocol):
    """The registries that cached content is a copy of."""

    def serves(self, name: RepositoryName) -> bool:
        """Tell whether one is configured for a repository; nothing else is asked where none is."""

    async def manifest(
        self,
        name: RepositoryName,
        reference: Reference,
        cached: StoredManifest | None,
        fixed: FixedTag | None = None,
    ) -> StoredManifest | None:
        """Return what upstream has now, or had when it was asked; of a ``fixed`` tag, its digest.

        None where it need not be asked, since what is ``cached`` still holds.
        """

    async def describe(
        self,
        name: RepositoryName,
        reference: Reference,
        cached: StoredManifest | None,
        fixed: FixedTag | None = None,
    ) -> Descriptor | None:
        """Describe what ``manifest`` would return, without fetching what is not cached."""

    async def blob(
        self,
        name: RepositoryName,
        digest: Digest,
        cached: StoredBlob | None,
        rights: ReadRights,
        asker: Asker | None = None,
    ) -> StoredBlob | ArrivingBlob:
        """Return a blob, which is fetched unless it is ``cached``.

        What is stored for other repositories is reused where ``rights`` cover one of them. Where
        many are fetched, ``asker`` waits; ``TooManyRequests`` where that is too long.
        """

    async def blob_size(self, name: RepositoryName, digest: Digest, rights: ReadRights) -> int:
        """Return the size in bytes of a blob that is not cached, without fetching it."""

    async def referrers(self, name: RepositoryName, subject: Digest) -> list[Descriptor]:
        """Return what upstream lists as referring to a manifest."""
