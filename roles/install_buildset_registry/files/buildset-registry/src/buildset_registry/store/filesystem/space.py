# SPDX-License-Identifier: Apache-2.0
"""The disk of the storage: what is left of it, what is to stay free, what the blobs take."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from buildset_registry.errors import StorageFull
from buildset_registry.store.filesystem import layout
from buildset_registry.store.floor import floor_of, full


class Space:
    """The room below one folder; ``floor`` bytes of it stay free."""

    replicas = None

    def __init__(self, storage: Path, floor: int | None = None) -> None:
        self._storage = storage
        self._floor = floor_of(self.free()[1], floor)

    def free(self) -> tuple[int, int]:
        state = os.statvfs(self._storage)
        return state.f_bavail * state.f_frsize, state.f_blocks * state.f_frsize

    def require(self) -> None:
        """Raise ``StorageFull`` when no more than the floor is left; two microseconds."""
        if not self._floor:
            return
        state = os.statvfs(self._storage)
        if state.f_bavail * state.f_frsize <= self._floor:
            advice = "remove images or give it a larger disk"
            raise full("the disk of the registry", self._floor, advice)

    async def problem(self) -> str | None:
        return await asyncio.to_thread(self._problem)

    async def used(self) -> int:
        return await asyncio.to_thread(lambda: sum(_sizes(str(layout.blobs(self._storage)))))

    def clock_ahead(self) -> float:
        return 0.0

    def _problem(self) -> str | None:
        probe = layout.temporary(self._storage) / f"ready-{uuid.uuid4().hex}"
        try:
            probe.write_bytes(b"ready")
            probe.unlink()
            self.require()
        except StorageFull:
            return "the disk is full"
        except OSError as error:
            return f"the storage cannot be written: {error.strerror}"
        return None


def _sizes(folder: str) -> Iterator[int]:
    """Yield the sizes of the files below a folder; what goes meanwhile is left out."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes(entry.path)
                else:
                    yield entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return
