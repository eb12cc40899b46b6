# SPDX-License-Identifier: Apache-2.0
"""A folder in the OCI image layout, as source and as destination.

Source: the image specification, "OCI Image Layout Specification". What refers to an image stands
in ``index.json`` beside it, without a name. A blob that did not arrive whole waits in a hidden file
for the next copy.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import RegistryError
from ..oci.descriptor import Descriptor
from ..oci.digest import Digest
from ..oci.manifest import MAX_MANIFEST, Manifest
from ..oci.names import Reference, referrers_tag
from .content import BlobReader, ListedReferrers, Piece, Sent, read_manifest
from .errors import ContentMismatch, TransferError
from .http_client import PIECE

REF_NAME = "org.opencontainers.image.ref.name"
_VERSION = "1.0.0"
_MAX_INDEX = 64 << 20
#: The end of the name of a file that is being written.
_UNFINISHED = ".new"


class LayoutFolder:
    """A folder with ``oci-layout``, ``index.json`` and ``blobs``."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._lock = threading.Lock()
        self._held: int | None = None
        self._subjects: dict[Digest, Digest | None] = {}

    def __str__(self) -> str:
        return f"oci:{self.folder}"

    @property
    def here(self) -> bool:
        """Say that it is on this machine."""
        return True

    def close(self) -> None:
        """Let other copies write to the folder."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def manifest(self, reference: Reference | str | None) -> Manifest | None:
        """Return a manifest by its digest or its name; without a name, the only one there."""
        if isinstance(reference, Digest):
            return self._stored(reference, "")
        entries = self._entries(wanted=True)
        if reference is not None:
            entries = [one for one in entries if _ref(one) == reference]
        elif len(entries) > 1:
            entries = [one for one in entries if not self._is_referrer(one)]
        if len(entries) > 1 and reference is None:
            names = ", ".join(filter(None, map(_ref, entries))) or "images without a name"
            raise TransferError(f"{self} has several images; say which, as {self}:REF: {names}")
        if not entries:
            return None
        descriptor = _descriptor(entries[-1], self)
        return self._stored(descriptor.digest, descriptor.media_type)

    def said_of(self, _reference: Reference | str | None) -> str:
        """Return nothing: a folder tells no more than that."""
        return ""

    def expect_blobs(self, count: int) -> None:
        """Need nothing to be ready."""

    def expect_writes(self) -> None:
        """Need nothing to be ready, nor write before there is something to write."""

    def open_blob(self, digest: Digest, offset: int) -> Iterator[Piece]:
        """Yield a blob's bytes from an offset on."""
        with self._failures(), _regular(self._path(digest)) as file:
            file.seek(offset)
            while piece := file.read(PIECE):
                yield piece

    def referrers(self, subject: Digest) -> ListedReferrers:
        """Return what names a manifest as its subject, or is listed under the fallback tag."""
        found = [
            _descriptor(one, self)
            for one in self._entries(wanted=True)
            if self._subject(one) == subject
        ]
        listed = self.manifest(referrers_tag(subject))
        more = [one for one in listed.manifests if one not in found] if listed else []
        return ListedReferrers((*found, *more))

    def find_manifest(self, reference: Reference | str | None) -> Digest | None:
        """Return the digest of a manifest that is there."""
        if isinstance(reference, Digest):
            return reference if self.has_blob(reference) else None
        if not reference:
            return None
        entries = self._entries(wanted=False)
        named = {_descriptor(one, self).digest for one in entries if _ref(one) == reference}
        # crane appends to what has the name already; only what is written anew has it once.
        return named.pop() if len(named) == 1 else None

    def has_blob(self, digest: Digest) -> bool:
        """Tell whether a blob is there."""
        with self._failures():
            return self._path(digest).exists()

    def write_blob(self, blob: BlobReader, sent: Sent, _mount_from: str | None) -> bool:
        """Store a blob, going on with what an earlier copy left, unless that proves to be wrong: a
        machine that lost its power leaves zeros."""
        self._prepare()
        target = self._path(blob.digest)
        part = target.with_name(f".{target.name}.part")
        with self._failures():
            target.parent.mkdir(parents=True, exist_ok=True)
            with _hidden(part, os.O_APPEND) as file:
                offset = self._go_on(blob, part)
                file.truncate(offset)
                for piece in blob.pieces(offset):
                    file.write(piece)
                    sent(len(piece))
                file.flush()
                os.fsync(file.fileno())
        try:
            blob.verify()
        except ContentMismatch:
            with self._failures():
                part.unlink()
            if not offset:
                raise
            blob.begin_anew()
            return self.write_blob(blob, sent, None)
        with self._failures():
            part.replace(target)
        return False

    def put_manifest(self, manifest: Manifest, reference: Reference | str | None) -> None:
        """Store a manifest; one with a name, one that refers to another and, by an empty name, one
        that has none get a line in ``index.json``."""
        self._prepare()
        target = self._path(manifest.digest)
        with self._failures():
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                _write(target, manifest.raw)
        if reference is not None or manifest.subject is not None:
            self._list(manifest, str(reference or ""))

    def _list(self, manifest: Manifest, name: str) -> None:
        """Write a manifest into the index; its name is taken from whatever had it."""
        entry = manifest.descriptor.to_json()
        if name:
            entry["annotations"] = {REF_NAME: name}
        with self._lock, self._failures():
            others = [
                one
                for one in self._entries(wanted=False)
                if not (name and _ref(one) == name)
                and not (not _ref(one) and one.get("digest") == str(manifest.digest))
            ]
            if not name and any(one.get("digest") == str(manifest.digest) for one in others):
                return
            tree = {**self._index(wanted=False), "manifests": [*others, entry]}
            _write(self.folder / "index.json", json.dumps(tree, indent=2).encode())

    def _go_on(self, blob: BlobReader, part: Path) -> int:
        """Hash what an earlier copy left of a blob, and return how much that is."""
        size = min(part.stat().st_size, blob.size)
        with part.open("rb") as file:
            left = size
            while left and (piece := file.read(min(PIECE, left))):
                blob.take(piece)
                left -= len(piece)
        return size

    def _prepare(self) -> None:
        """Make the folder, once, and keep other copies out of it."""
        with self._lock:
            if self._held is not None:
                return
            with self._failures():
                self.folder.mkdir(parents=True, exist_ok=True)
                held = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(held)
                raise TransferError(
                    f"another copy writes to {self.folder}; wait until it has ended"
                ) from None
            self._held = held
            with self._failures():
                self._begin()

    def _begin(self) -> None:
        marker, index = self.folder / "oci-layout", self.folder / "index.json"
        # What a copy that was killed was writing is no content; nobody else writes now.
        for file in (marker, index):
            for left in self.folder.glob(f".{file.name}.*{_UNFINISHED}"):
                left.unlink()
        if not marker.exists():
            if not index.exists() and any(self.folder.iterdir()):
                raise TransferError(
                    f"{self.folder} is neither empty nor an OCI image layout; name another folder"
                )
            _write(marker, json.dumps({"imageLayoutVersion": _VERSION}).encode())
        if not index.exists():
            _write(index, json.dumps({"schemaVersion": 2, "manifests": []}).encode())

    def _index(self, *, wanted: bool) -> dict[str, Any]:
        file = self.folder / "index.json"
        try:
            with _regular(file) as opened:
                tree = json.loads(opened.read(_MAX_INDEX))
        except FileNotFoundError:
            if wanted:
                raise TransferError(
                    f"{self.folder} is no OCI image layout: there is no index.json in it"
                ) from None
            return {"schemaVersion": 2, "manifests": []}
        except OSError as error:
            raise TransferError(f"{file} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise TransferError(f"{file} is not JSON; write the layout anew") from None
        if not isinstance(tree, dict) or not isinstance(tree.get("manifests"), list):
            raise TransferError(f"{file} lists no manifests; write the layout anew")
        return tree

    def _entries(self, *, wanted: bool) -> list[dict[str, Any]]:
        items = self._index(wanted=wanted)["manifests"]
        return [one for one in items if isinstance(one, dict)]

    def _stored(self, digest: Digest, media_type: str) -> Manifest | None:
        path = self._path(digest)
        if not self.has_blob(digest):
            return None
        with self._failures(), _regular(path) as file:
            raw = file.read(MAX_MANIFEST + 1)
        if len(raw) > MAX_MANIFEST or Digest.of(raw, digest.algorithm) != digest:
            raise ContentMismatch(f"{path} is not what its name says; write the layout anew")
        found = read_manifest(raw, media_type, f"{self}@{digest}")
        return Manifest.stored(raw, found.media_type, digest.algorithm)

    def _subject(self, entry: dict[str, Any]) -> Digest | None:
        """Return the subject of a manifest that is listed."""
        digest = _descriptor(entry, self).digest
        if digest not in self._subjects:
            found = self._stored(digest, "")
            subject = found.subject if found else None
            self._subjects[digest] = subject.digest if subject else None
        return self._subjects[digest]

    def _is_referrer(self, entry: dict[str, Any]) -> bool:
        return self._subject(entry) is not None

    def _path(self, digest: Digest) -> Path:
        return self.folder / "blobs" / digest.algorithm / digest.hex

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = error.filename or self.folder
            raise TransferError(f"{where}: {error.strerror}") from None


def _ref(entry: dict[str, Any]) -> str | None:
    annotations = entry.get("annotations")
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) else None


def _descriptor(entry: dict[str, Any], layout: LayoutFolder) -> Descriptor:
    try:
        return Descriptor.parse(entry, "index.json", strict=False)
    except RegistryError as error:
        raise TransferError(f"{layout}: {error.message}; write the layout anew") from None


def _regular(path: Path) -> BinaryIO:
    """Open a file to read; a pipe in a stranger's folder would be waited at without an end."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file


def _hidden(path: Path, how: int) -> BinaryIO:
    """Open a hidden file to write; a link by its name in a stranger's folder leads out of it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags | how, 0o666), "wb")


def _write(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    # Two images with a manifest in common may write it at the same time.
    new = path.with_name(f".{path.name}.{threading.get_ident()}{_UNFINISHED}")
    try:
        with _hidden(new, os.O_TRUNC) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
