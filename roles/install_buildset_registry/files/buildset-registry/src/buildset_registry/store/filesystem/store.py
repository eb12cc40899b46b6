# SPDX-License-Identifier: Apache-2.0
"""The whole store in a local folder, in distribution's layout, and its blobs.

Reading a small file or asking whether one is there takes microseconds from the page cache and
is done at once; whatever waits for the disk (fsync, big reads, walks) runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from stat import S_ISREG

from buildset_registry.errors import DigestInvalid
from buildset_registry.oci.digest import ALGORITHMS, Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.store.base import BlobFile, BlobState
from buildset_registry.store.contents import ContentCache
from buildset_registry.store.documents import FolderDocuments
from buildset_registry.store.filesystem import layout
from buildset_registry.store.filesystem.caches import ListCache
from buildset_registry.store.filesystem.disk import Disk
from buildset_registry.store.filesystem.files import file_state, read_file
from buildset_registry.store.filesystem.links import (
    FileRepository,
    LinkContext,
    is_repository,
    walk_misnamed,
    walk_repositories,
)
from buildset_registry.store.filesystem.uploads import FileUploads
from buildset_registry.store.holders import Holders
from buildset_registry.store.turns import Turns

#: A promise is noted when the last one noted is older than this, or a busy registry would write
#: on each HEAD. The grace period is longer.
_PROMISE_SECONDS = 30.0
#: Repositories whose paths are kept ready; past this many, all are made again when used.
_KEPT_REPOSITORIES = 1024


class FilesystemStore:
    """Everything below one folder, which no other process uses until it is closed."""

    def __init__(
        self,
        storage: Path,
        floor: int | None = None,
        *,
        promise_seconds: float = _PROMISE_SECONDS,
        durable: bool = True,
        disk: Disk | None = None,
    ) -> None:
        self._storage = storage
        self._root = layout.repositories(storage)
        self._disk = disk or Disk(storage, floor, durable=durable)
        self.space = self._disk.space
        self.turns = Turns()
        self._indexes: dict[tuple[RepositoryName, bool], FileRepository] = {}
        self._names: ListCache[RepositoryName] = ListCache()
        self._tags: ListCache[Tag] = ListCache()
        self.holders = Holders()
        self.blobs = FileBlobs(storage, self._disk, promise_seconds)
        self.uploads = FileUploads(storage, self._disk)

    def documents(self, topic: str, *, secret: bool = False) -> FolderDocuments:
        folder, temporary = layout.documents(self._storage, topic), layout.temporary(self._storage)
        return FolderDocuments(folder, secret=secret, temporary=temporary)

    def pushed(self, name: RepositoryName) -> FileRepository:
        return self._indexes.get((name, False)) or self._repository(name, cached=False)

    def cached(self, name: RepositoryName) -> FileRepository:
        return self._indexes.get((name, True)) or self._repository(name, cached=True)

    def _repository(self, name: RepositoryName, *, cached: bool) -> FileRepository:
        """Make what reads and writes a repository; it holds paths and no state, so it is kept."""
        folder = layout.repository(self._storage, name)
        context = LinkContext(
            self._disk,
            partial(self._links_changed, name),
            partial(self.holders.add, name),
            tracked=cached,
        )
        made = FileRepository(layout.upstream(folder) if cached else folder, context, self._tags)
        if len(self._indexes) >= _KEPT_REPOSITORIES:
            self._indexes.clear()
        return self._indexes.setdefault((name, cached), made)

    async def repositories(self) -> Sequence[RepositoryName]:
        names = self._names.get(self._root)
        if names is not None:
            return names
        walk = partial(walk_repositories, self._root)
        return await asyncio.to_thread(self._names.read, self._root, walk)

    async def misnamed(self) -> Sequence[RepositoryName]:
        # Not from memory: another program may have put one there since.
        return await asyncio.to_thread(lambda: sorted(walk_misnamed(self._root)))

    def _links_changed(self, name: RepositoryName) -> None:
        """Keep the list of repositories right: this one may be new, or hold nothing any more."""
        self._names.changed(
            self._root, name, lambda: is_repository(layout.repository(self._storage, name))
        )

    def collecting(self, *, wait: bool) -> AbstractAsyncContextManager[bool]:
        return contextlib.nullcontext(True)  # no other process has it

    async def aclose(self) -> None:
        self._disk.close()


class FileBlobs:
    """``blobs/<algorithm>/<2 hex>/<hex>/data``; its time is when it was last promised."""

    def __init__(self, storage: Path, disk: Disk, promise_seconds: float) -> None:
        self._storage = storage
        self._name = str(layout.blobs(storage))
        self._disk = disk
        self._promise_seconds = promise_seconds
        self._cache = ContentCache()

    async def size(self, digest: Digest) -> int | None:
        state = self._disk.state(layout.blob_name(self._name, digest))
        return None if state is None else state[0]

    async def open(self, digest: Digest) -> BlobFile | None:
        # Looked for each time: the server is about to open it by its name.
        state = file_state(layout.blob_name(self._name, digest))
        return None if state is None else BlobFile(layout.blob(self._storage, digest), state[0])

    async def read(self, digest: Digest) -> bytes | None:
        cached = self._cache.get(digest)
        if cached is not None:
            return cached
        found = read_file(layout.blob_name(self._name, digest))
        if found is None:
            return None
        self._cache.add(digest, found[0])
        return found[0]

    async def put(self, digest: Digest, content: bytes) -> None:
        name = layout.blob_name(self._name, digest)
        await self._disk.settled(name)
        found = read_file(name)
        present = found is not None and found[0] == content
        if not (present and self._disk.touch(name)):
            self._disk.space.require()
            await self._disk.write(name, content)

    async def keep(self, digest: Digest, *, promised: bool = True) -> int | None:
        name = layout.blob_name(self._name, digest)
        await self._disk.settled(name)
        state = self._disk.state(name)
        if state is None:
            return None
        size, noted = state
        if promised and time.time() - noted < self._promise_seconds:
            return size
        return size if self._disk.touch(name, timeless=not promised) else None

    async def walk(self, *, tidy: bool = False) -> AsyncIterator[list[BlobState]]:
        root = layout.blobs(self._storage)
        for folder in await asyncio.to_thread(_blob_folders, root):
            yield await asyncio.to_thread(_blobs_in, folder)

    async def sweep(self, digest: Digest, promised_before: float, changed_before: float) -> bool:
        path = layout.blob(self._storage, digest)

        def unwanted() -> bool:
            try:
                state = path.stat()
            except FileNotFoundError:
                return False
            return state.st_mtime < promised_before and state.st_ctime < changed_before

        removed = await self._disk.remove_if(path.parent, unwanted)
        if removed:
            self._cache.removed(digest)
        return removed


def _blob_folders(root: Path) -> list[Path]:
    """Return ``<algorithm>/<2 hex>`` of all blobs."""
    return [
        folder
        for algorithm in ALGORITHMS
        for folder in (root / algorithm).glob("??")
        if folder.is_dir()
    ]


def _blobs_in(folder: Path) -> list[BlobState]:
    found = []
    for entry in folder.iterdir():
        with contextlib.suppress(OSError, DigestInvalid):
            digest = Digest.parse(f"{folder.parent.name}:{entry.name}")
            data = entry / "data"
            state = data.stat()
            if not S_ISREG(state.st_mode):
                continue
            found.append(BlobState(digest, state.st_size, state.st_mtime, state.st_ctime))
    return found
