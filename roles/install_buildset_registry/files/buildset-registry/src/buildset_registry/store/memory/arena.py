# SPDX-License-Identifier: Apache-2.0
"""Memory for large pieces of content, beside the memory of Python.

It is a file that only the kernel's memory holds (memfd_create(2)): what is freed is free at once
and whole, which memory that C's allocator has given to threads is not. Where the system has none,
pieces stay as they are.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import weakref


class Arena:
    """The memory of one store; freed with it."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        with contextlib.suppress(AttributeError, OSError):  # not Linux, or not allowed
            self._descriptor = os.memfd_create("buildset-registry")
            weakref.finalize(self, os.close, self._descriptor)
        self._end = 0

    @property
    def held(self) -> int:
        """The bytes that it takes."""
        return 0 if self._descriptor is None else os.fstat(self._descriptor).st_blocks * 512

    def keep(self, content: bytes) -> bytes | Extent:
        """Take in some content; returns what it can be read from, and lives as long as."""
        if self._descriptor is None:
            return content
        start, view = self._end, memoryview(content)
        while view:
            written = os.pwrite(self._descriptor, view, start + len(content) - len(view))
            view = view[written:]
        # A place is used once: what is freed is a hole in a file that takes no memory.
        self._end += -len(content) // mmap.ALLOCATIONGRANULARITY * -mmap.ALLOCATIONGRANULARITY
        return Extent(self, self._descriptor, start, len(content))


class Extent:
    """A piece in an arena, read like bytes; the arena lives as long as one of its pieces."""

    __slots__ = ("_arena", "_descriptor", "_offset", "_size", "end")

    def __init__(self, arena: Arena, descriptor: int, offset: int, size: int) -> None:
        self._arena = arena
        self._descriptor = descriptor
        self._offset = offset
        self._size = size
        self.end = offset + size

    def __getitem__(self, part: slice) -> bytes:
        start, end, _step = part.indices(self._size)
        return os.pread(self._descriptor, max(0, end - start), self._offset + start)

    def __del__(self) -> None:
        with (
            contextlib.suppress(OSError, ValueError),
            mmap.mmap(self._descriptor, self._size, offset=self._offset) as mapped,
        ):
            mapped.madvise(mmap.MADV_REMOVE)
