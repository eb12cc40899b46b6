# SPDX-License-Identifier: Apache-2.0
"""The contract of a store, as small protocols that ``registry`` and ``pullthrough`` consume.

Blobs are addressed by digest and shared by all repositories; a repository holds *links*: which
layers and manifests belong to it, and its tags. What jobs pushed and what was pulled through from
an upstream are linked in two separate ``RepositoryIndex`` objects (``pushed`` and ``cached``), so
that a push wins over upstream's content by a look-up order and eviction can never touch a push.

Every method that changes something returns only when the change is durable (on disk, folder
entries included). Nothing becomes visible before it is complete. Removing what is not there
returns False and is no error. All times are seconds since the epoch.

What requests need and what the collector needs are two halves: ``Blobs``, ``Links`` and ``Uploads``
serve, ``CollectableBlobs``, ``ExpiringLinks`` and ``ExpiringUploads`` add what removes.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from buildset_registry.oci.descriptor import Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag, UploadId
from buildset_registry.store.documents import Records
from buildset_registry.store.replicas import Replicas
from buildset_registry.store.turns import Turns

#: Bytes of a file that are read at once.
_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class BlobFile:
    """A complete blob in a local file, for a server that sends files by itself."""

    path: Path
    size: int

    async def chunks(self, start: int, end: int) -> AsyncGenerator[bytes]:
        """Yield the bytes from ``start`` up to ``end``; ``EOFError`` where there are fewer."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            while start < end:
                piece = os.pread(descriptor, min(_PIECE, end - start), start)
                if not piece:
                    raise EOFError(f"{self.path} ended at {start} of {end} bytes")
                start += len(piece)
                yield piece
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class BlobSource:
    """A complete blob that has no file, and is read in pieces."""

    size: int
    chunks: Callable[[int, int], AsyncGenerator[bytes]]
    """Yields the bytes from an offset up to another."""


@dataclass(frozen=True, slots=True)
class BlobRedirect:
    """A complete blob that clients are to fetch elsewhere."""

    url: str
    """An absolute URL, good for a client that follows it soon."""

    size: int
    chunks: Callable[[int, int], AsyncGenerator[bytes]]
    """Yields the bytes from an offset up to another, to whoever reads it here all the same."""


#: A blob is a file, a stream, or a place to redirect to; each has a size and yields its chunks.
StoredBlob = BlobFile | BlobSource | BlobRedirect


@dataclass(frozen=True, slots=True)
class TagTarget:
    """The manifest that a tag points to, and when that was last known to be true."""

    digest: Digest
    checked: float


@dataclass(frozen=True, slots=True)
class BlobState:
    """A blob, and what decides whether the collector may remove it."""

    digest: Digest
    size: int
    promised: float
    """When a client that pushes was last told that it is here; 0 if only upstream gave it."""

    changed: float
    """When it became visible or was last promised."""


@dataclass(frozen=True, slots=True)
class LinkState:
    """A link, and when it was made or last used."""

    digest: Digest
    used: float


@dataclass(frozen=True, slots=True)
class UploadState:
    """An upload session, and when something last arrived."""

    name: RepositoryName
    id: UploadId
    size: int
    changed: float


class Reader(Protocol):
    """Read content that may still be growing."""

    async def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes; nothing means that no more is there yet."""

    def close(self) -> None:
        """Let go of the content."""


class Upload(Protocol):
    """Content on its way in; hashed while it is written.

    One request at a time uses it, else ``BlobUploadInvalid``; when it has been committed, cancelled
    or refused, it takes nothing more: ``BlobUploadUnknown``.
    """

    id: UploadId
    size: int
    """Bytes received so far."""

    async def append(self, chunks: AsyncIterator[bytes], *, last: Digest | None = None) -> None:
        """Write all of ``chunks`` at the end; what arrived before an error stays.

        ``last`` tells that ``commit`` of this digest follows: till then what is small need not be
        durable, and what is large may go where the blob will be.
        """

    async def commit(self, digest: Digest) -> None:
        """Verify and make it the blob ``digest``; if it differs, ``DigestInvalid`` and it ends."""

    async def cancel(self) -> None:
        """Forget it and what arrived."""

    def reader(self) -> Reader:
        """Open what is written so far; stays readable after commit."""


class Uploads(Protocol):
    """Content on its way in; the sessions of repositories outlive a restart of the server."""

    async def create(self, name: RepositoryName) -> Upload:
        """Begin a session."""

    async def resume(self, name: RepositoryName, upload_id: UploadId) -> Upload:
        """Find a session by its identifier, or raise ``BlobUploadUnknown``."""

    async def ingest(self, digest: Digest) -> Upload:
        """Begin what belongs to no session and ends with the process: pull-through's."""


class ExpiringUploads(Uploads, Protocol):
    """Upload sessions, and what ends those that nobody continues."""

    async def all(self, *, tidy: bool = False) -> list[UploadState]:
        """Return all sessions; ``tidy``, first finish or remove what processes left beside them."""

    async def expire(self, state: UploadState) -> bool:
        """Forget a session unless something arrived, or a request uses it, since ``state``."""


class Blobs(Protocol):
    """Content by digest."""

    async def size(self, digest: Digest) -> int | None:
        """Return the size in bytes, or None where there is no such blob."""

    async def open(self, digest: Digest) -> StoredBlob | None:
        """Return what a blob can be had from, or None where there is no such blob."""

    async def read(self, digest: Digest) -> bytes | None:
        """Return a small blob (a manifest) whole."""

    async def put(self, digest: Digest, content: bytes) -> None:
        """Store a small blob (a manifest) whose digest the caller computed."""

    async def keep(self, digest: Digest, *, promised: bool = True) -> int | None:
        """Promise a client that pushes that a blob stays; return its size, None if it is not here.

        Not ``promised``, it stays from a collection that is under way, to be linked in the cache.

        The promise holds for as long as the collector's grace period, also over a restart. What
        is linked or put in a manifest has to be promised first: then the collector, which asks
        again before it removes, cannot come in between.
        """


class CollectableBlobs(Blobs, Protocol):
    """Content by digest, and what removes it."""

    def walk(self, *, tidy: bool = False) -> AsyncIterator[list[BlobState]]:
        """Yield all blobs, some at a time; ``tidy``, remove promises that are of no use."""

    async def sweep(self, digest: Digest, promised_before: float, changed_before: float) -> bool:
        """Remove a blob unless it was promised or changed at or after these times."""


class Links(Protocol):
    """Which digests belong to a repository; asking for one of upstream's counts as using it."""

    async def has(self, digest: Digest) -> bool:
        """Tell whether the digest is linked."""

    async def target(self, digest: Digest) -> Digest | None:
        """Return the digest that content is stored by, which to distribution is always sha256."""

    async def add(self, digest: Digest, target: Digest | None = None) -> None:
        """Link content, stored as ``target`` if not as ``digest``; a link that is there is used."""

    async def use(self, digest: Digest) -> bool:
        """Note that a link is in use; False where there is none."""

    async def remove(self, digest: Digest) -> bool:
        """Unlink a digest, and tell whether it was linked."""


class ExpiringLinks(Links, Protocol):
    """Links, and what removes those that nobody uses."""

    async def all(self) -> list[LinkState]:
        """Return all links, in no order."""

    async def expire(self, digest: Digest, used_before: float) -> bool:
        """Remove a link unless it was used at or after a time."""

    async def prune(self, digest: Digest) -> bool:
        """Remove a link to content that is not there any more."""


class Manifests(ExpiringLinks, Protocol):
    """Links to manifests; a media type that the bytes do not tell is kept beside the link."""

    async def media_type(self, digest: Digest) -> str | None:
        """Return the media type that is kept, or None."""

    async def set_media_type(self, digest: Digest, media_type: str) -> None:
        """Keep a media type; it goes with the link."""

    async def remains(self, digest: Digest) -> bool:
        """Tell whether a manifest is linked now, whoever may have removed it; that is no use."""


class CollectedTags(Protocol):
    """The half of tags that a collection asks for."""

    async def expire(self, tag: Tag, target: TagTarget) -> bool:
        """Remove a tag unless it was set since it was found to be ``target``, wherever that was."""

    async def restore(self, tag: Tag, digest: Digest) -> None:
        """Set a tag that was removed, unless somebody has set it since."""

    async def prune(self, before: float) -> int:
        """Remove what is listed and leads nowhere, unless it was changed since; count it.

        Whoever was killed has left it, where several processes share a storage.
        """


class Tags(CollectedTags, Protocol):
    """Names for manifests; setting one replaces what it pointed to, at once and whole."""

    async def get(self, tag: Tag) -> TagTarget | None:
        """Return what a tag points to, or None where there is no such tag."""

    async def set(self, tag: Tag, digest: Digest) -> None:
        """Point a tag to a manifest."""

    async def remove(self, tag: Tag) -> bool:
        """Remove a tag, and tell whether it was there."""

    async def all(self) -> Sequence[Tag]:
        """Return all tags in lexical order; what is returned does not follow later changes."""

    async def of(self, digest: Digest) -> Sequence[Tag]:
        """Return all tags that point to a manifest now, whoever set them, and maybe others."""


class Referrers(Protocol):
    """Which manifests name a manifest as their subject."""

    async def add(self, subject: Digest, digest: Digest) -> None:
        """Note that a manifest names a subject."""

    async def remove(self, subject: Digest, digest: Digest) -> bool:
        """Forget it, and tell whether it was noted."""

    async def of(self, subject: Digest) -> list[Digest]:
        """Return the manifests that name a subject."""

    async def note(self, subject: Digest, digest: Digest, descriptor: Descriptor) -> None:
        """Note what a list says of a referrer; it goes with what ``add`` noted, or comes before."""

    async def noted(self, subject: Digest, digest: Digest) -> Descriptor | None:
        """Return what a list says of a referrer, or None where that was not noted."""


class RepositoryIndex(Protocol):
    """One repository's links."""

    @property
    def layers(self) -> ExpiringLinks:
        """Return the links to layers and configurations."""

    @property
    def manifests(self) -> Manifests:
        """Return the links to manifests."""

    @property
    def tags(self) -> Tags:
        """Return the tags."""

    @property
    def referrers(self) -> Referrers:
        """Return the referrers."""

    async def exists(self) -> bool:
        """Tell whether the repository is known: something is linked here."""


class StorageSpace(Protocol):
    """The state of a storage, as it can be told from outside."""

    @property
    def replicas(self) -> Replicas | None:
        """Return the notices of those who share it; None where one process has it for itself."""

    async def problem(self) -> str | None:
        """Return why nothing can be stored, in a few words, or None."""

    def free(self) -> tuple[int, int] | None:
        """Return the bytes that are free and the bytes in all, or None where there is no disk."""

    async def used(self) -> int:
        """Add up the bytes of all blobs; takes long."""

    def clock_ahead(self) -> float:
        """Return how many seconds this machine's clock is ahead of what times of content are of."""


class Contents(Protocol):
    """Everything that is kept."""

    @property
    def blobs(self) -> CollectableBlobs:
        """Return the content of all repositories."""

    @property
    def uploads(self) -> ExpiringUploads:
        """Return what is on its way in."""

    def pushed(self, name: RepositoryName) -> RepositoryIndex:
        """Return the links of what was pushed."""

    def cached(self, name: RepositoryName) -> RepositoryIndex:
        """Return the links of what was pulled through."""

    async def repositories(self) -> Sequence[RepositoryName]:
        """Return the names of all repositories in lexical order, as they are now."""


class Store(Contents, Records, Protocol):
    """A store that was opened: everything that is kept, and where."""

    @property
    def turns(self) -> Turns:
        """Return what lets one at a time change a manifest with its tags."""

    @property
    def space(self) -> StorageSpace:
        """Return what tells of the storage itself."""

    async def misnamed(self) -> Sequence[RepositoryName]:
        """Return repositories that nobody can ask for by the names another program gave them."""

    def collecting(self, *, wait: bool) -> AbstractAsyncContextManager[bool]:
        """Be the one process that collects; False where another one does, and nobody is to wait."""

    async def aclose(self) -> None:
        """Let another process have the storage."""
