# SPDX-License-Identifier: Apache-2.0
"""Blobs in memory: kept in the pieces in which they came, from the upload to the answer.

Large pieces are in an arena.

One is freed when the last who reads it is done: to remove it only lets go of it.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from buildset_registry.oci.digest import Digest
from buildset_registry.store.base import BlobSource, BlobState, StoredBlob
from buildset_registry.store.memory.arena import Arena, Extent

#: Bytes up to which pieces are put together: each is an object of its own.
_SMALL = 64 * 1024
#: Bytes that a reader gets at once.
_PIECE = 256 * 1024


class Content:
    """Bytes in the pieces in which they came; they only ever grow, and never change."""

    def __init__(self, arena: Arena | None = None) -> None:
        self._arena = arena
        self._pieces: list[bytes | Extent] = []
        self._starts: list[int] = []
        self._tail = bytearray()
        self._sealed = 0

    @property
    def size(self) -> int:
        return self._sealed + len(self._tail)

    def append(self, piece: bytes) -> None:
        """Add a piece; small ones are gathered, and copied by that."""
        if len(piece) < _SMALL and len(self._tail) + len(piece) < _SMALL:
            self._tail += piece
        elif len(piece) < _SMALL:
            self._add(bytes(self._tail) + piece)
            self._tail = bytearray()
        else:
            self.seal()
            self._add(piece)

    def read(self, start: int, end: int) -> bytes:
        """Return some of the bytes from ``start`` on, none past ``end``; a piece as it is."""
        if start >= self._sealed:
            return bytes(self._tail[start - self._sealed : max(0, end - self._sealed)])
        at = bisect_right(self._starts, start) - 1
        first = self._starts[at]
        return self._pieces[at][start - first : end - first]

    async def chunks(self, start: int, end: int) -> AsyncGenerator[bytes]:
        """Yield the bytes from ``start`` up to ``end``."""
        while start < end:
            piece = self.read(start, min(start + _PIECE, end))
            start += len(piece)
            yield piece

    def whole(self) -> bytes:
        """Return all of it; of what is one piece, no copy."""
        self.seal()
        pieces = [piece[:] for piece in self._pieces]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def seal(self) -> None:
        """Make what was gathered a piece."""
        if self._tail:
            self._add(bytes(self._tail))
            self._tail = bytearray()

    def _add(self, piece: bytes) -> None:
        """Keep a piece, or nothing of it where there is no room."""
        large = self._arena if len(piece) >= _SMALL else None
        kept = large.keep(piece) if large else bytes(piece)
        self._starts.append(self._sealed)
        self._pieces.append(kept)
        self._sealed += len(piece)


@dataclass(slots=True)
class _Blob:
    """Content, and the times by which the collector goes."""

    content: Content
    changed: float = 0
    promised: float = 0


class MemoryBlobs:
    """Content by digest."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, _Blob] = {}
        self.arena = Arena()

    async def size(self, digest: Digest) -> int | None:
        blob = self._blobs.get(digest)
        return None if blob is None else blob.content.size

    async def open(self, digest: Digest) -> StoredBlob | None:
        blob = self._blobs.get(digest)
        return None if blob is None else BlobSource(blob.content.size, blob.content.chunks)

    async def read(self, digest: Digest) -> bytes | None:
        blob = self._blobs.get(digest)
        return None if blob is None else blob.content.whole()

    async def put(self, digest: Digest, content: bytes) -> None:
        kept = self.content()
        kept.append(content)
        self.add(digest, kept, promised=True)

    def content(self) -> Content:
        """Return where content may arrive."""
        return Content(self.arena)

    async def keep(self, digest: Digest, *, promised: bool = True) -> int | None:
        blob = self._blobs.get(digest)
        if blob is None:
            return None
        blob.changed = time.time()
        if promised:
            blob.promised = blob.changed
        return blob.content.size

    async def walk(self, *, tidy: bool = False) -> AsyncIterator[list[BlobState]]:
        yield [
            BlobState(digest, blob.content.size, blob.promised, blob.changed)
            for digest, blob in self._blobs.items()
        ]

    async def sweep(self, digest: Digest, promised_before: float, changed_before: float) -> bool:
        blob = self._blobs.get(digest)
        if blob is None or blob.promised >= promised_before or blob.changed >= changed_before:
            return False
        del self._blobs[digest]
        return True

    def add(self, digest: Digest, content: Content, *, promised: bool) -> Content:
        """Make content visible, and return what is there: the same that came earlier."""
        content.seal()
        blob = self._blobs.setdefault(digest, _Blob(content))
        blob.changed = time.time()
        if promised:
            blob.promised = blob.changed
        return blob.content

    def used(self) -> int:
        return sum(blob.content.size for blob in self._blobs.values())
