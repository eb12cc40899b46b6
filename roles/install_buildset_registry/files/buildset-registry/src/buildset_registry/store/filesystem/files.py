# SPDX-License-Identifier: Apache-2.0
"""Files, one at a time: read whole, hashed, written at once or as their content arrives."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from stat import S_ISDIR

from buildset_registry.oci.digest import Hasher, hasher

#: Bytes that may wait for the disk. What is promised to be on disk in the end had better be on its
#: way there while more arrives, or the promise waits for all of it.
_AHEAD = 16 * 1024 * 1024
#: Bytes of a file that are hashed at once.
_PIECE = 1024 * 1024


class SyncFailed(OSError):
    """The disk did not take what was written.

    The kernel forgets by that what was not written, so a later sync may say that all is well
    (fsync(2)): what was written before has to be written again, or nobody is promised it.
    """


def wait_for_disk(descriptor: int, sync: Callable[[int], None]) -> None:
    """Wait until what was written to a file is on disk; raises ``SyncFailed``."""
    try:
        sync(descriptor)
    except OSError as error:
        raise SyncFailed(error.errno, error.strerror) from error


def sync(path: Path) -> None:
    """Wait until a file or a folder is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        wait_for_disk(descriptor, os.fsync)
    finally:
        os.close(descriptor)


def read_file(path: Path | str) -> tuple[bytes, float] | None:
    """Return a small file's content and its mtime, or None; a third of what ``Path.open`` costs."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        state = os.fstat(descriptor)
        if S_ISDIR(state.st_mode):
            return None
        content = os.read(descriptor, state.st_size)
        while len(content) < state.st_size and (more := os.read(descriptor, state.st_size)):
            content += more
        return content, state.st_mtime
    finally:
        os.close(descriptor)


def file_state(name: str) -> tuple[int, float] | None:
    """Return a file's size in bytes and its mtime, or None where there is none."""
    try:
        state = os.stat(name)  # noqa: PTH116  # see layout.blob_name
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None if S_ISDIR(state.st_mode) else (state.st_size, state.st_mtime)


def create(path: Path | str, content: bytes = b"") -> None:
    """Write a new small file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        write_whole(descriptor, content, 0)
    finally:
        os.close(descriptor)


def hash_file(path: Path, algorithm: str) -> Hasher:
    """Return the running hash of a file, so that it can go on."""
    state = hasher(algorithm)
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            state.update(piece)
    return state


def write_whole(descriptor: int, content: bytes, offset: int) -> None:
    """Write all of some content, however often the kernel takes less."""
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


class Writer:
    """An open file, written from ``offset`` on while the disk works; close it at the end.

    Past ``ahead`` bytes it begins to bring them to the disk; not ``durable``, it never does.
    """

    def __init__(
        self, path: Path, offset: int, *, durable: bool = True, ahead: int = _AHEAD
    ) -> None:
        self._durable = durable
        self._ahead = ahead
        self._descriptor = os.open(path, os.O_WRONLY)
        self._offset = offset
        self._handed_over = offset
        self._syncing: asyncio.Future[None] | None = None
        self._closed = False

    def write(self, chunk: bytes) -> None:
        """Write a piece, or nothing of it; past some, begin to bring them to the disk."""
        try:
            write_whole(self._descriptor, chunk, self._offset)
        except OSError:
            os.ftruncate(self._descriptor, self._offset)
            raise
        self._offset += len(chunk)
        many = self._offset - self._handed_over >= self._ahead
        if self._durable and many and self._idle():
            self._handed_over = self._offset
            loop = asyncio.get_running_loop()
            self._syncing = loop.run_in_executor(
                None, wait_for_disk, self._descriptor, os.fdatasync
            )

    async def close(self) -> None:
        """Close the file; raises ``SyncFailed`` where the disk did not take what was written.

        Whoever was cancelled meanwhile, or has to know it once more, may ask again.
        """
        try:
            if self._syncing is not None:
                await asyncio.shield(self._syncing)
        finally:
            if not self._closed:
                self._closed = True
                if self._syncing is None or self._syncing.done():
                    os.close(self._descriptor)
                else:  # a thread still uses it
                    self._syncing.add_done_callback(lambda _done: os.close(self._descriptor))

    def _idle(self) -> bool:
        """Whether nothing is on its way; raises ``OSError`` where that failed."""
        if self._syncing is None:
            return True
        if not self._syncing.done():
            return False
        self._syncing.result()
        return True


class FileReader:
    """Read a file that another request may still be writing, and that may be renamed meanwhile."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    async def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def close(self) -> None:
        os.close(self._descriptor)
