# SPDX-License-Identifier: Apache-2.0
"""The store in a local folder, in distribution's layout: blobs, uploads, and the whole.

Reading a small file or asking whether one is there takes microseconds from the page cache and
is done at once; whatever waits for the disk (fsync, big reads, walks) runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from buildset_registry.errors import BlobUploadInvalid, BlobUploadUnknown, DigestInvalid
from buildset_registry.oci.digest import Digest, Hasher, hasher
from buildset_registry.oci.names import RepositoryName, Tag, UploadId
from buildset_registry.store import layout
from buildset_registry.store.base import BlobFile
from buildset_registry.store.disk import Disk
from buildset_registry.store.links import FileRepository, is_repository, walk_repositories
from buildset_registry.store.listings import Listings

#: Uploads whose hash state is kept in memory; others are read again when they go on.
_KEPT_SESSIONS = 1024
_PIECE = 1024 * 1024


class FilesystemStore:
    """Everything below one folder; ``close`` lets another process use it."""

    def __init__(self, storage: Path) -> None:
        self._storage = storage
        self._disk = Disk(storage)
        self._names: Listings[RepositoryName] = Listings()
        self._tags: Listings[Tag] = Listings()
        self.blobs = FileBlobs(storage, self._disk)
        self.uploads = FileUploads(storage, self._disk)

    def pushed(self, name: RepositoryName) -> FileRepository:
        return self._repository(name, layout.repository(self._storage, name))

    def cached(self, name: RepositoryName) -> FileRepository:
        return self._repository(name, layout.upstream(layout.repository(self._storage, name)))

    def _repository(self, name: RepositoryName, folder: Path) -> FileRepository:
        return FileRepository(folder, self._disk, self._tags, partial(self._listed, name))

    async def repositories(self) -> Sequence[RepositoryName]:
        root = layout.repositories(self._storage)
        known = self._names.known(root)
        if known is not None:
            return known
        return await asyncio.to_thread(self._names.read, root, partial(walk_repositories, root))

    def _listed(self, name: RepositoryName) -> None:
        """Keep the list of repositories right after a change of one."""
        folder = layout.repository(self._storage, name)
        root = layout.repositories(self._storage)
        self._names.changed(root, name, partial(is_repository, folder))

    def close(self) -> None:
        self._disk.close()


class FileBlobs:
    """``blobs/<algorithm>/<2 hex>/<hex>/data``."""

    def __init__(self, storage: Path, disk: Disk) -> None:
        self._storage = storage
        self._disk = disk

    async def size(self, digest: Digest) -> int | None:
        try:
            return layout.blob(self._storage, digest).stat().st_size
        except FileNotFoundError:
            return None

    async def open(self, digest: Digest) -> BlobFile | None:
        size = await self.size(digest)
        return None if size is None else BlobFile(layout.blob(self._storage, digest), size)

    async def read(self, digest: Digest) -> bytes | None:
        try:
            return layout.blob(self._storage, digest).read_bytes()
        except FileNotFoundError:
            return None

    async def put(self, digest: Digest, content: bytes) -> None:
        path = layout.blob(self._storage, digest)
        if await self.size(digest) == len(content):
            await asyncio.to_thread(self._disk.settle, path)
        else:
            await asyncio.to_thread(self._disk.write, path, content)

    async def ingest(self) -> FileUpload:
        return FileUpload.create(self._disk.temporary(), _new_id(), self._storage, self._disk)


class FileUploads:
    """``repositories/<name>/_uploads/<uuid>``, with the state of hashes that are under way."""

    def __init__(self, storage: Path, disk: Disk) -> None:
        self._storage = storage
        self._disk = disk
        self._known: OrderedDict[Path, FileUpload] = OrderedDict()

    async def create(self, name: RepositoryName) -> FileUpload:
        upload_id = _new_id()
        folder = layout.upload(layout.repository(self._storage, name), upload_id)
        return self._remember(FileUpload.create(folder, upload_id, self._storage, self._disk))

    async def resume(self, name: RepositoryName, upload_id: UploadId) -> FileUpload:
        folder = layout.upload(layout.repository(self._storage, name), upload_id)
        upload = self._known.get(folder)
        try:
            size = (folder / "data").stat().st_size
        except FileNotFoundError:
            self._known.pop(folder, None)
            raise BlobUploadUnknown from None
        if upload is None:
            upload = FileUpload(folder, upload_id, size, None, self._storage, self._disk)
        return self._remember(upload)

    def _remember(self, upload: FileUpload) -> FileUpload:
        self._known[upload.folder] = upload
        self._known.move_to_end(upload.folder)
        while len(self._known) > _KEPT_SESSIONS:
            self._known.popitem(last=False)
        return upload


class FileUpload:
    """A folder with ``data`` and ``startedat``, as distribution keeps an upload."""

    def __init__(
        self,
        folder: Path,
        upload_id: UploadId,
        size: int,
        sha256: Hasher | None,
        storage: Path,
        disk: Disk,
    ) -> None:
        self.folder = folder
        self._data = folder / "data"
        self.id = upload_id
        self.size = size
        self._sha256 = sha256
        self._storage = storage
        self._disk = disk
        self._busy = False

    @classmethod
    def create(cls, folder: Path, upload_id: UploadId, storage: Path, disk: Disk) -> FileUpload:
        """Make an empty upload; not synced, since nothing is promised before commit."""
        folder.mkdir(parents=True)
        started = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        (folder / "startedat").write_text(started)
        (folder / "data").touch()
        return cls(folder, upload_id, 0, hasher("sha256"), storage, disk)

    async def append(self, chunks: AsyncIterator[bytes]) -> None:
        with self._exclusive():
            sha256 = await self._hash_state()
            descriptor = os.open(self._data, os.O_WRONLY)
            try:
                async for chunk in chunks:
                    _write_all(descriptor, chunk, self.size)
                    sha256.update(chunk)
                    self.size += len(chunk)
            except OSError:
                self._sha256 = None
                raise
            finally:
                os.close(descriptor)

    async def commit(self, digest: Digest) -> None:
        with self._exclusive():
            if digest.algorithm == "sha256":
                actual = (await self._hash_state()).hexdigest()
            else:
                actual = (
                    await asyncio.to_thread(_hash_file, self._data, digest.algorithm)
                ).hexdigest()
            if actual == digest.hex:
                await asyncio.to_thread(self._publish, digest)
            await asyncio.to_thread(shutil.rmtree, self.folder, True)
        if actual != digest.hex:
            raise DigestInvalid(
                f"content is {digest.algorithm}:{actual}, not {digest}; push it again"
            )

    async def cancel(self) -> None:
        with self._exclusive():
            await asyncio.to_thread(shutil.rmtree, self.folder, True)

    def reader(self) -> FileReader:
        return FileReader(self._data)

    def _publish(self, digest: Digest) -> None:
        path = layout.blob(self._storage, digest)
        try:
            present = path.stat().st_size == self.size
        except FileNotFoundError:
            present = False
        if present:
            self._disk.settle(path)
        else:
            self._disk.publish(self._data, path)
        self._data = path

    async def _hash_state(self) -> Hasher:
        """Return the running hash; after a restart it is computed again from the file."""
        if self._sha256 is None:
            self._sha256 = await asyncio.to_thread(_hash_file, self._data, "sha256")
            self.size = self._data.stat().st_size
        return self._sha256

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        if self._busy:
            raise BlobUploadInvalid("another request is writing to this upload; wait for it to end")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False


class FileReader:
    """Read a file that another request may still be writing, and that may be renamed meanwhile."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    async def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def close(self) -> None:
        os.close(self._descriptor)


def _new_id() -> UploadId:
    return UploadId(uuid.uuid4())


def _write_all(descriptor: int, chunk: bytes, offset: int) -> None:
    view = memoryview(chunk)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def _hash_file(path: Path, algorithm: str) -> Hasher:
    state = hasher(algorithm)
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            state.update(piece)
    return state
