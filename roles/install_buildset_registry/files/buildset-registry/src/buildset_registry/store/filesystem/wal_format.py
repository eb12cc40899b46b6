# SPDX-License-Identifier: Apache-2.0
"""The files of the log: what is in them, and doing it again.

A log is a sequence of frames: length and CRC-32 of what follows, then records, each of them kind,
lengths, path below the storage, content. What is no whole frame ends it. Logs are numbered.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from buildset_registry.oci.manifest import MAX_MANIFEST
from buildset_registry.store.filesystem.files import (
    SyncFailed,
    file_state,
    read_file,
    sync,
    wait_for_disk,
    write_whole,
)

#: A log grows by so many bytes of zeros: to write over them costs half of what appending does.
_GROWTH = 1024 * 1024
_FRAME = struct.Struct("<II")
_RECORD = struct.Struct("<BHI")


class Kind(IntEnum):
    """The thing that a record says of a path."""

    WRITTEN = 1
    """A file has this content."""

    REMOVED = 2
    """A file or a folder is gone, with what was in it."""

    KEPT = 3
    """A file is there by other means; earlier records of it no longer count."""


def record(kind: Kind, path: bytes, content: bytes) -> bytes:
    """Return a record of a path below the storage."""
    return _RECORD.pack(kind, len(path), len(content)) + path + content


def standing(path: str) -> tuple[Kind, str, bytes]:
    """Return what a record has to say so that a path stays as it is now."""
    state = file_state(path)
    if state is not None and state[0] <= MAX_MANIFEST:  # the largest that a record has
        found = read_file(path)
        if found is not None:
            return Kind.WRITTEN, path, found[0]
    return (Kind.KEPT if Path(path).exists() else Kind.REMOVED), path, b""


class LogFile:
    """A log that is being written."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self.size = 0
        self._room = 0
        try:
            sync(path.parent)
        except OSError:
            os.close(self._descriptor)
            raise

    def append(self, records: bytes) -> None:
        """Write a frame and wait for the disk; after ``SyncFailed``, nothing more may follow."""
        frame = _FRAME.pack(len(records), zlib.crc32(records)) + records
        while self.size + len(frame) > self._room:
            write_whole(self._descriptor, bytes(_GROWTH), self._room)
            self._room += _GROWTH
        write_whole(self._descriptor, frame, self.size)
        wait_for_disk(self._descriptor, os.fdatasync)
        self.size += len(frame)

    def abandon(self) -> None:
        """Close a log after ``SyncFailed``, and void the frame that was refused, if that goes."""
        with contextlib.suppress(OSError):
            write_whole(self._descriptor, bytes(_FRAME.size), self.size)
        self.close()

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass
class _State:
    """What the records say in the end."""

    written: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)

    def add(self, place: int, kind: int, path: str, content: bytes) -> None:
        if kind == Kind.WRITTEN:
            self.written[path] = (place, content)
            return
        self.written.pop(path, None)
        if kind == Kind.REMOVED:
            self.removed[path] = place
            return
        for folder in _above(path):
            self.removed.pop(folder, None)

    def lasting(self) -> Iterator[tuple[str, bytes]]:
        """Yield what was written and not removed later."""
        for path, (place, content) in self.written.items():
            if all(self.removed.get(folder, -1) < place for folder in _above(path)):
                yield path, content


def replay(
    folder: Path, write: Callable[[str, bytes], None], remove: Callable[[str], None]
) -> None:
    """Do again what the logs in a folder tell, sync everything, and remove them.

    The paths that ``write`` and ``remove`` are called with are below the storage.
    """
    logs = _logs(folder)
    if not logs:
        return
    state, place = _State(), 0
    for log in logs:
        for record in records(log.read_bytes()):
            state.add(place, *record)
            place += 1
    for path in state.removed:
        remove(path)
    for path, content in state.lasting():
        write(path, content)
    settle(folder, int(logs[-1].name))


def settle(folder: Path, number: int) -> None:
    """Sync everything, then remove the logs up to a number."""
    sync_everything(folder)
    for log in _logs(folder):
        if int(log.name) <= number:
            log.unlink()
    sync(folder)


def sync_everything(folder: Path) -> None:
    """Wait until all of a folder's file system is on disk (syncfs(2))."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise SyncFailed(number, os.strerror(number))
    finally:
        os.close(descriptor)


def records(content: bytes) -> Iterator[tuple[int, str, bytes]]:
    """Yield kind, path and content of each record, up to what is no whole frame."""
    start = 0
    while start + _FRAME.size <= len(content):
        length, checksum = _FRAME.unpack_from(content, start)
        frame = content[start + _FRAME.size : start + _FRAME.size + length]
        if not length or len(frame) < length or zlib.crc32(frame) != checksum:
            return
        place = 0
        while place < length:
            kind, named, size = _RECORD.unpack_from(frame, place)
            place += _RECORD.size
            path = os.fsdecode(frame[place : place + named])
            place += named
            yield kind, path, frame[place : place + size]
            place += size
        start += _FRAME.size + length


def _above(path: str) -> Iterator[str]:
    """Yield a path and the folders that it is in."""
    while path:
        yield path
        path = path.rpartition("/")[0]


def _logs(folder: Path) -> list[Path]:
    """Return the logs in their order; another program's files are none of them."""
    found = (path for path in folder.iterdir() if path.name.isdecimal() and path.is_file())
    return sorted(found, key=lambda path: int(path.name))
