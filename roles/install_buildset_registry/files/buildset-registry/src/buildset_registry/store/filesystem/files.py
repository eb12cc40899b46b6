# SPDX-License-Identifier: Apache-2.0
"""Writing a file as its content arrives, and letting the disk work meanwhile."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from buildset_registry.oci.digest import Hasher, hasher

#: Bytes that may wait for the disk. What is promised to be on disk in the end had better be on its
#: way there while more arrives, or the promise waits for all of it.
_AHEAD = 16 * 1024 * 1024


def write_whole(descriptor: int, content: bytes, offset: int) -> None:
    """Write all of some content, however often the kernel takes less."""
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


class Writer:
    """An open file, written from ``offset`` on; close it at the end.

    Not ``durable``, it leaves the disk to the kernel.
    """

    def __init__(self, path: Path, offset: int, *, durable: bool = True) -> None:
        self._durable = durable
        self._descriptor = os.open(path, os.O_WRONLY)
        self._offset = offset
        self._handed_over = offset
        self._syncing: asyncio.Future[None] | None = None

    def write(self, chunk: bytes) -> None:
        """Write a piece; past some of them, begin to bring them to the disk."""
        write_whole(self._descriptor, chunk, self._offset)
        self._offset += len(chunk)
        wanted = self._durable and self._offset - self._handed_over >= _AHEAD
        if wanted and self._idle():
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


_PIECE = 1024 * 1024


def hash_file(path: Path, algorithm: str) -> Hasher:
    """Return the running hash of a file, so that it can go on."""
    state = hasher(algorithm)
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            state.update(piece)
    return state
