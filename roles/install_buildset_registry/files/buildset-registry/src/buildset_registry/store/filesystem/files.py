# SPDX-License-Identifier: Apache-2.0
"""Files, one at a time: read whole, hashed, written at once or as their content arrives."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from buildset_registry.oci.digest import Hasher, hasher

#: Bytes that may wait for the disk. What is promised to be on disk in the end had better be on its
#: way there while more arrives, or the promise waits for all of it.
_AHEAD = 16 * 1024 * 1024
#: Bytes of a file that are hashed at once.
_PIECE = 1024 * 1024


def read_file(path: Path | str) -> tuple[bytes, float] | None:
    """Return a small file's content and its mtime, or None; a third of what ``Path.open`` costs."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        state = os.fstat(descriptor)
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
    except FileNotFoundError:
        return None
    return state.st_size, state.st_mtime


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

    def write(self, chunk: bytes) -> None:
        """Write a piece; past some of them, begin to bring them to the disk."""
        write_whole(self._descriptor, chunk, self._offset)
        self._offset += len(chunk)
        many = self._offset - self._handed_over >= self._ahead
        if self._durable and many and self._idle():
            self._handed_over = self._offset
            loop = asyncio.get_running_loop()
            self._syncing = loop.run_in_executor(None, os.fdatasync, self._descriptor)

    async def close(self) -> None:
        """Close the file; raises ``OSError`` where the disk did not take what was written."""
        try:
            if self._syncing is not None:
                await asyncio.shield(self._syncing)
        finally:
            self._close_when_idle()

    def _idle(self) -> bool:
        """Whether nothing is on its way; raises ``OSError`` where that failed."""
        if self._syncing is None:
            return True
        if not self._syncing.done():
            return False
        self._syncing.result()
        return True

    def _close_when_idle(self) -> None:
        """Close at once, or when a thread that still uses the descriptor has ended."""
        if self._syncing is None or self._syncing.done():
            os.close(self._descriptor)
        else:
            self._syncing.add_done_callback(lambda _done: os.close(self._descriptor))


class FileReader:
    """Read a file that another request may still be writing, and that may be renamed meanwhile."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    async def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def close(self) -> None:
        os.close(self._descriptor)
