# SPDX-License-Identifier: Apache-2.0
"""The two ends of a copy, as the engine sees them, and content that is verified on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import chain
from typing import Protocol, TypeAlias

from ..oci.descriptor import DOCKER_SCHEMA1, OCTETS, Descriptor, is_media_type
from ..oci.digest import Digest, hasher
from ..oci.manifest import Manifest, stored_media_type
from ..oci.names import Reference
from .errors import ContentMismatch, TransferError

#: Breaks in a row without a byte in between, after which a blob is given up.
BREAKS = 5
Piece: TypeAlias = "bytes | memoryview"
#: Told the number of bytes that were sent to the destination.
Sent = Callable[[int], None]


@dataclass(frozen=True)
class ListedReferrers:
    """The manifests that name another as their subject, and whether an API listed them."""

    items: tuple[Descriptor, ...]
    by_api: bool = True


class ImageSource(Protocol):
    """The end that images come from."""

    @property
    def here(self) -> bool:
        """Whether it is known to be on this machine."""

    def manifest(self, reference: Reference | str | None) -> Manifest | None:
        """Return a manifest, None where there is none."""

    def said_of(self, reference: Reference | str | None) -> str:
        """Return what is said of a manifest that is not there; mostly nothing."""

    def expect_blobs(self, count: int) -> None:
        """Get ready for so many blobs to be asked for at once."""

    def open_blob(self, digest: Digest, offset: int) -> Iterator[Piece]:
        """Yield a blob's bytes from an offset on."""

    def referrers(self, subject: Digest) -> ListedReferrers:
        """Return what refers to a manifest."""


class ImageDestination(Protocol):
    """The end that images go to."""

    @property
    def here(self) -> bool:
        """Whether it is known to be on this machine."""

    def find_manifest(self, reference: Reference | str | None) -> Digest | None:
        """Return the digest of a manifest that is there."""

    def expect_writes(self) -> None:
        """Get ready to be written to."""

    def has_blob(self, digest: Digest) -> bool:
        """Tell whether a blob is there."""

    def write_blob(self, blob: BlobReader, sent: Sent, mount_from: str | None) -> bool:
        """Take a blob; True where it was mounted from another repository instead."""

    def put_manifest(self, manifest: Manifest, reference: Reference | str | None) -> None:
        """Take a manifest, under its digest and, where one is given, a name."""

    def referrers(self, subject: Digest) -> ListedReferrers:
        """Return what refers to a manifest."""


def read_manifest(raw: bytes, content_type: str, where: str) -> Manifest:
    """Return a manifest as its bytes and, where these do not tell, its header say what it is."""
    media_type = stored_media_type(raw)
    stated = content_type.partition(";")[0].strip().lower()
    if media_type == OCTETS and is_media_type(stated):
        media_type = stated
    if not DOCKER_SCHEMA1.isdisjoint((media_type, stated)):
        raise TransferError(f"{where} is of Docker's schema 1, which no client pulls any more")
    return Manifest.stored(raw, media_type)


class BlobReader:
    """A blob of the source, read from any offset on; its bytes are hashed once, as they pass.

    Where ``hashed`` is false they are not: the destination does that.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        open_at: Callable[[int], Iterator[Piece]],
        sleep: Callable[[float], object],
    ) -> None:
        self.descriptor = descriptor
        self.digest = descriptor.digest
        self.size = descriptor.size
        self.hashed = True
        self._open_at = open_at
        self._sleep = sleep
        self._hash = hasher(self.digest.algorithm)
        self._hashed = 0
        self._ahead: Future[Iterator[Piece]] | None = None

    def ask_ahead(self, aside: Executor) -> None:
        """Ask the source for the blob while the destination gets ready for it."""
        self._ahead = aside.submit(_begun, self._open_at, 0)

    def read(self) -> bytes:
        """Return the whole blob, verified."""
        content = b"".join(bytes(piece) for piece in self.pieces(0))
        self.verify()
        return content

    def begin_anew(self) -> None:
        """Forget what has passed."""
        self._hash, self._hashed = hasher(self.digest.algorithm), 0

    def take(self, piece: Piece) -> None:
        """Hash the next bytes, which the destination has from an earlier copy."""
        self._update(self._hashed, piece)

    def pieces(self, offset: int) -> Iterator[Piece]:
        """Yield the bytes from an offset on; a source that breaks is asked for the rest."""
        breaks = 0
        while offset < self.size:
            try:
                for piece in self._opened(offset):
                    if offset + len(piece) > self.size:
                        raise ContentMismatch(
                            f"{self.digest} is larger at the source than the {self.size:,} bytes "
                            "that its manifest tells; nothing was tagged, push the image again"
                        )
                    self._update(offset, piece)
                    offset += len(piece)
                    breaks = 0
                    yield piece
                if offset < self.size:
                    raise TransferError(
                        f"{self.digest} ends after {offset:,} of {self.size:,} bytes",
                        transient=True,
                    )
            except TransferError as error:
                breaks += 1
                # One that is busy was asked for as long as that makes sense.
                if not error.transient or error.pause or breaks >= BREAKS:
                    raise SourceFailed(str(error)) from None
                self._sleep(0.2 * 2**breaks)

    def _opened(self, offset: int) -> Iterator[Piece]:
        ahead, self._ahead = self._ahead, None
        return self._open_at(offset) if ahead is None or offset else ahead.result()

    @property
    def verified(self) -> bool:
        """Whether all bytes have passed, and are those of the digest."""
        return self._hashed == self.size and self._hash.hexdigest() == self.digest.hex

    def verify(self) -> None:
        """Raise where what has passed is the whole blob, and not the one that was asked for.

        Of a blob whose first part was sent by an earlier copy only the destination sees all bytes,
        and so it does of what was not hashed.
        """
        if self._hashed == self.size and not self.verified:
            raise self._mismatch()

    def _update(self, offset: int, piece: Piece) -> None:
        """Hash what has not passed before; nothing once a part was left out."""
        end = offset + len(piece)
        if self.hashed and offset <= self._hashed < end:
            self._hash.update(piece[self._hashed - offset :])
            self._hashed = end

    def _mismatch(self) -> ContentMismatch:
        return ContentMismatch(
            f"the source sent other bytes than {self.digest} stands for; nothing was tagged, "
            "and what is at the source needs to be pushed again"
        )


def _begun(open_at: Callable[[int], Iterator[Piece]], offset: int) -> Iterator[Piece]:
    """Return pieces of which the first one has arrived."""
    pieces = open_at(offset)
    return chain((next(pieces, b""),), pieces)


class SourceFailed(TransferError):
    """A source that gives no more of a blob; the destination has no part in it."""
