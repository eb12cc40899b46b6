# SPDX-License-Identifier: Apache-2.0
"""Upload sessions, in distribution's ``_uploads`` once something arrived."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from buildset_registry.errors import BlobUploadUnknown
from buildset_registry.oci.names import RepositoryName, UploadId
from buildset_registry.store import layout
from buildset_registry.store.base import UploadState
from buildset_registry.store.disk import Disk, file_state
from buildset_registry.store.links import walk
from buildset_registry.store.receiving import FileUpload

#: Sessions that are remembered, with the state of their hashes; others are read when they go on.
_REMEMBERED = 1024
#: Seconds before the start of the process in which an unknown session may have begun.
_BEFORE = 3600.0


class FileUploads:
    """``repositories/<name>/_uploads/<uuid>``, with the state of hashes that are under way.

    A session of which nothing arrived yet is in memory. It outlives the process all the same: its
    identifier tells that it began before this process, which takes it for an empty one.
    """

    def __init__(self, storage: Path, disk: Disk) -> None:
        self._storage = storage
        self._disk = disk
        self._known: OrderedDict[tuple[RepositoryName, UploadId], FileUpload] = OrderedDict()
        self._started = time.time_ns() // 1_000_000 / 1000  # as exact as an identifier

    async def create(self, name: RepositoryName) -> FileUpload:
        self._disk.space.require()
        return self._remember(name, self._begin(name, UploadId.new()))

    async def resume(self, name: RepositoryName, upload_id: UploadId) -> FileUpload:
        upload = self._known.get((name, upload_id))
        if upload is None:
            return self._remember(name, self._find(name, upload_id))
        if not upload.exists():
            raise BlobUploadUnknown
        if upload.size:  # the client is about to be told so
            upload.save()
        return self._remember(name, upload)

    async def all(self) -> list[UploadState]:
        found = [
            UploadState(name, upload_id, upload.size, upload.begun)
            for (name, upload_id), upload in self._known.items()
            if upload.in_memory and not upload.ended
        ]
        return found + await asyncio.to_thread(lambda: list(_walk_uploads(self._storage)))

    async def expire(self, state: UploadState) -> bool:
        upload = self._known.get((state.name, state.id))
        if upload is not None:
            if upload.busy or upload.ended:
                return False
            if upload.in_memory:
                upload.ended = True
                return True
        # Requests begin on this thread, so none can begin to use it before it is gone.
        folder = self._folder(state.name, state.id)
        doomed = self._disk.temporary()
        try:
            if _last_change(folder) > state.changed:
                return False
            folder.replace(doomed)
        except FileNotFoundError:
            return False
        if upload is not None:
            upload.ended = True
        await asyncio.to_thread(shutil.rmtree, doomed, True)
        return True

    def _folder(self, name: RepositoryName, upload_id: UploadId) -> Path:
        return layout.upload(layout.repository(self._storage, name), upload_id)

    def _begin(self, name: RepositoryName, upload_id: UploadId) -> FileUpload:
        return FileUpload(self._folder(name, upload_id), upload_id, self._disk)

    def _find(self, name: RepositoryName, upload_id: UploadId) -> FileUpload:
        """Find a session that this process did not begin, or has forgotten."""
        folder = self._folder(name, upload_id)
        state = file_state(str(folder / "data"))
        if state is not None:
            return FileUpload(folder, upload_id, self._disk, stored=state[0])
        made = upload_id.made
        if made is None or not 0 < self._started - made < _BEFORE:
            raise BlobUploadUnknown
        return self._begin(name, upload_id)

    def _remember(self, name: RepositoryName, upload: FileUpload) -> FileUpload:
        key = (name, upload.id)
        while key not in self._known and len(self._known) >= _REMEMBERED:
            oldest = next(iter(self._known))
            self._known[oldest].save()
            del self._known[oldest]
        self._known[key] = upload
        self._known.move_to_end(key)
        return upload


def _walk_uploads(storage: Path) -> Iterator[UploadState]:
    for name, children in walk(layout.repositories(storage)):
        if layout.UPLOADS not in children:
            continue
        repository = layout.repository(storage, name)
        for entry in os.scandir(repository / layout.UPLOADS):
            with contextlib.suppress(BlobUploadUnknown, FileNotFoundError):
                upload_id = UploadId.parse(entry.name)
                folder = layout.upload(repository, upload_id)
                size = _size(folder / "data")
                yield UploadState(name, upload_id, size, _last_change(folder))


def _last_change(folder: Path) -> float:
    data = folder / "data"
    return max(folder.stat().st_mtime, data.stat().st_mtime if data.exists() else 0)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
