# SPDX-License-Identifier: Apache-2.0
"""Pushing one blob: whole if it is small, else as a stream that goes on where it broke.

Sources: the distribution specification, "Pushing blobs" (``POST`` then ``PUT``, chunks, the status
of an upload). A way that takes no large body (413, as nginx answers by its
``client_max_body_size``) gets chunks, smaller and smaller ones.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ..protocol.verification import HEADER, is_verifying
from .content import BREAKS, BlobReader, Piece, Sent, SourceFailed
from .errors import ContentMismatch, TransferError
from .http_client import Reply
from .session import BUSY, absolute
from .tries import Tries

if TYPE_CHECKING:
    from .remote import RemoteRepository

#: Blobs up to this size are pushed whole, from memory.
SMALL = 2 << 20
#: Blobs from this size on are remembered, so that another copy goes on with them.
REMEMBERED = 16 << 20
#: The chunks that a 413 leads to, and the smallest.
FIRST_CHUNK, LAST_CHUNK = 64 << 20, 1 << 20
#: The age at which the address of an upload is of no use any more.
_FORGOTTEN_SECONDS = 7 * 24 * 3600
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,18})")
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_OCTETS = {"Content-Type": "application/octet-stream"}
#: What means that there is no such upload (any more), or none that can be gone on with.
_GONE = frozenset({400, 404, 410, 416})


class UploadJournal:
    """Addresses of uploads that have begun, in a folder, for a copy that is run again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _file(self, key: str) -> Path:
        return self._folder / f"{sha256(key.encode()).hexdigest()[:32]}.json"

    def get(self, key: str) -> str | None:
        """Return the address of an upload that another copy began."""
        try:
            tree = json.loads(self._file(key).read_text())
        except (OSError, ValueError):
            return None
        known = isinstance(tree, dict) and tree.get("key") == key
        return str(tree["location"]) if known and tree.get("location") else None

    def put(self, key: str, location: str) -> None:
        """Remember an upload; where that cannot be written, a copy just begins anew."""
        file = self._file(key)
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            written = file.with_suffix(".new")
            written.touch(mode=0o600)
            written.write_text(json.dumps({"key": key, "location": location}))
            written.replace(file)
            self._expire()

    def _expire(self) -> None:
        """Forget uploads that registries have long given up."""
        for file in self._folder.iterdir():
            if file.stat().st_mtime < time.time() - _FORGOTTEN_SECONDS:
                file.unlink(missing_ok=True)

    def forget(self, key: str) -> None:
        """Leave nothing behind of an upload that has ended."""
        with suppress(OSError):
            self._file(key).unlink()


class BlobUpload:
    """The push of one blob to one repository."""

    def __init__(self, repository: RemoteRepository, blob: BlobReader, sent: Sent) -> None:
        self._repository = repository
        self._blob = blob
        self._sent = sent
        self._key = f"{repository.session.url}/{repository.repository}@{blob.digest}"
        self._journal = repository.journal if blob.size >= REMEMBERED else None
        self._tries = Tries(BREAKS, 0.4)
        self._smallest = 0
        self._body = 0
        """The bytes of the request that is under way; without any, a 413 is of something else."""

        self._latest: str | None = None
        """Where the upload goes on."""

        self._verified_there = False

    def run(self, location: str | None = None) -> None:
        """Push; ``location`` is an upload that has begun already."""
        if self._blob.size <= SMALL and not self._repository.largest_chunk:
            try:
                self._push_whole(location)
            except TransferError as error:
                if error.status != 413 or not self._body:
                    raise
                self._smaller_chunks(error)
            else:
                return
        self._push_stream(location)

    def _push_whole(self, location: str | None) -> None:
        """Push from memory, so that nothing is sent that is not verified."""
        begun = None if location else self._repository.aside.submit(self._begin)
        try:
            content = self._blob.read()
        except TransferError:
            self._cancel(begun.result() if begun else location)
            raise
        self._put(content, begun.result() if begun else location)
        self._sent(len(content))

    def _put(self, content: bytes, location: str | None) -> None:
        """Send content in one request.

        After a failure it goes by another upload: the one before may have taken the bytes, which
        some registries would append to, or be at its end, of which some know nothing but a 500.
        """
        another = False
        while True:
            location = location or self._begin()
            target = _with_digest(location, self._blob)
            self._body = len(content)
            try:
                reply = self._repository.call(
                    "PUT", target, (201, 204), _OCTETS, content, once=True
                )
            except TransferError as error:
                if error.status == 413 or (error.status in _GONE and another):
                    raise
                self._consider(error)
                if error.status in BUSY:
                    continue
                location, another = None, True
                if self._is_there():
                    return
            else:
                reply.discard()
                return

    def _is_there(self) -> bool:
        """Tell whether the registry has the blob: what breaks may be the answer that says so."""
        there = self._repository.has_blob(self._blob.digest)
        if there:
            self._forget()
        return there

    def _begin(self) -> str:
        """Open an upload and return its address."""
        self._body = 0
        reply = self._repository.call("POST", "blobs/uploads/", (202,), {"Content-Length": "0"})
        reply.discard()
        self._verified_there = is_verifying(reply.headers.get(HEADER))
        least = _LENGTH.fullmatch(reply.headers.get("OCI-Chunk-Min-Length", ""))
        self._smallest = int(least[0]) if least else 0
        return self._onward(reply)

    def _onward(self, reply: Reply) -> str:
        location = reply.headers.get("Location")
        if not location:
            raise TransferError(f"{self._repository} answers an upload without a Location")
        return absolute(reply.url, location, str(self._repository))

    def _push_stream(self, location: str | None) -> None:
        """Push what is missing, as often as that breaks and something arrived in between."""
        noted = self._journal.get(self._key) if self._journal else None
        location, offset = self._resume(noted) if noted else (location, 0)
        again, furthest = False, -1
        while True:
            try:
                if location is None:
                    self._latest = None
                    self._blob.ask_ahead(self._repository.aside)
                    location, offset = self._begin(), 0
                    # What was refused is hashed when it is sent again, to learn whose fault it is.
                    self._blob.hashed = again or not self._verified_there
                self._remember(location)
                self._finish(self._append(location, offset))
                return
            except (SourceFailed, ContentMismatch) as error:
                # What is noted is left for the next copy, unless it is wrong.
                if self._journal is None or isinstance(error, ContentMismatch):
                    self._give_up(self._latest)
                raise
            except TransferError as error:
                if offset > furthest:
                    self._tries.progress()
                again, furthest = True, max(furthest, offset)
                self._consider(error)
                location, offset = self._resume(self._latest)
            if location is None and self._is_there():
                return

    def _consider(self, error: TransferError) -> None:
        """Wait for another try, or raise where none helps."""
        if error.status == 413 and self._body:
            self._smaller_chunks(error)
            return
        if not (error.transient or error.status in _GONE):
            raise error
        self._repository.session.sleep(self._tries.pause(error))

    def _append(self, location: str, offset: int) -> str:
        """Send the rest of the blob and return where the upload goes on."""
        if offset >= self._blob.size:
            return location
        chunk = max(self._repository.largest_chunk, self._smallest)
        pieces = self._blob.pieces(offset)
        if not self._repository.largest_chunk:
            return self._patch(location, pieces, self._blob.size - offset, {})
        held = _Chunks(pieces)
        while offset < self._blob.size:
            size = min(chunk, self._blob.size - offset)
            place = {"Content-Range": f"{offset}-{offset + size - 1}"}
            location = self._patch(location, held.take(size), size, place)
            offset += size
        return location

    def _patch(
        self, location: str, pieces: Iterator[Piece], size: int, place: dict[str, str]
    ) -> str:
        headers = {**_OCTETS, "Content-Length": str(size), **place}
        self._body = size
        reply = self._repository.call("PATCH", location, (202,), headers, self._counted(pieces))
        reply.discard()
        onward = self._onward(reply)
        self._remember(onward)
        return onward

    def _counted(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            yield piece
            self._sent(len(piece))

    def _finish(self, location: str) -> None:
        """End the upload, once what has passed is known to be the blob."""
        self._blob.verify()
        target = _with_digest(location, self._blob)
        self._body = 0
        try:
            reply = self._repository.call("PUT", target, (201, 204), {"Content-Length": "0"})
        except TransferError as error:
            # All bytes are there, and are not the blob: distribution keeps such an upload.
            if error.status == 400:
                self._give_up(location)
                self._latest = None
            raise
        reply.discard()
        self._forget()

    def _resume(self, location: str | None) -> tuple[str | None, int]:
        """Ask how much of an upload has arrived; None for the address where it is gone.

        Also where it is not told: it may be at a server that is there no more, or be broken. Of a
        registry that answers nothing at all, the next request tells.
        """
        if location is None:
            return None, 0
        try:
            reply = self._repository.call("GET", location, (204, 202, 200))
        except TransferError as error:
            if error.pause:  # it was waited for, and who is busy would be so for another upload
                raise
            return None, 0
        reply.discard()
        found = _RANGE.fullmatch(reply.headers.get("Range", "").strip())
        # 0-0 is one byte, and at some registries none.
        if found is None or found[1] == "0" or int(found[1]) >= self._blob.size:
            self._give_up(location)
            return None, 0
        onward = reply.headers.get("Location") or location
        return absolute(reply.url, onward, str(self._repository)), int(found[1]) + 1

    def _remember(self, location: str) -> None:
        self._latest = location
        if self._journal:
            self._journal.put(self._key, location)

    def _forget(self) -> None:
        if self._journal:
            self._journal.forget(self._key)

    def _give_up(self, location: str | None) -> None:
        """Cancel an upload, which no other copy is to go on with."""
        self._forget()
        self._cancel(location)

    def _cancel(self, location: str | None) -> None:
        if location is not None:
            with suppress(TransferError):
                done = range(200, 500)  # it is a courtesy, for which nobody waits
                self._repository.call("DELETE", location, done, once=True).discard()

    def _smaller_chunks(self, error: TransferError) -> None:
        """Send smaller chunks than the body that was refused, or raise where none is left."""
        known = self._repository.largest_chunk
        if known and max(known, self._smallest) < self._body:
            return  # another blob's body was refused meanwhile
        smaller = known // 4 if known else FIRST_CHUNK
        while smaller >= max(self._blob.size, 2 * LAST_CHUNK) and smaller > LAST_CHUNK:
            smaller //= 4
        if known and smaller < LAST_CHUNK:
            raise error
        self._repository.largest_chunk = max(smaller, LAST_CHUNK)


class _Chunks:
    """Pieces of a blob, cut where chunks end."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self._rest: Piece = b""

    def take(self, size: int) -> Iterator[Piece]:
        """Yield the next bytes, so many."""
        while size:
            piece = self._rest if len(self._rest) else next(self._pieces, b"")
            if not len(piece):
                return
            self._rest = piece[size:]
            yield piece[:size]
            size -= min(size, len(piece))


def _with_digest(location: str, blob: BlobReader) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={blob.digest}"
