# SPDX-License-Identifier: Apache-2.0
"""Uploads in files: sessions in distribution's ``_uploads``, downloads in ``tmp``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timezone
from pathlib import Path

from buildset_registry.errors import BlobUploadInvalid, BlobUploadUnknown, DigestInvalid
from buildset_registry.oci.digest import Digest, Hasher, hasher
from buildset_registry.oci.names import RepositoryName, UploadId
from buildset_registry.store import layout
from buildset_registry.store.base import UploadState
from buildset_registry.store.disk import Disk, create
from buildset_registry.store.hashing import hash_file
from buildset_registry.store.links import walk
from buildset_registry.store.writing import Writer

#: Uploads whose hash state is kept in memory; others are read again when they go on.
_KEPT_SESSIONS = 1024
#: Bytes up to which a blob goes to the disk by the log: to write it twice costs less than syncs.
_SMALL = 64 * 1024


class FileUploads:
    """``repositories/<name>/_uploads/<uuid>``, with the state of hashes that are under way."""

    def __init__(self, storage: Path, disk: Disk) -> None:
        self._storage = storage
        self._disk = disk
        self._known: OrderedDict[Path, FileUpload] = OrderedDict()

    async def create(self, name: RepositoryName) -> FileUpload:
        upload_id = new_id()
        folder = layout.upload(layout.repository(self._storage, name), upload_id)
        return self._remember(FileUpload.create(folder, upload_id, self._disk))

    async def resume(self, name: RepositoryName, upload_id: UploadId) -> FileUpload:
        folder = layout.upload(layout.repository(self._storage, name), upload_id)
        upload = self._known.get(folder)
        try:
            size = (folder / "data").stat().st_size
        except FileNotFoundError:
            self._known.pop(folder, None)
            raise BlobUploadUnknown from None
        if upload is None:
            upload = FileUpload(folder, upload_id, self._disk, size, None)
        return self._remember(upload)

    async def all(self) -> list[UploadState]:
        return await asyncio.to_thread(lambda: list(_walk_uploads(self._storage)))

    async def expire(self, state: UploadState) -> bool:
        folder = layout.upload(layout.repository(self._storage, state.name), state.id)
        upload = self._known.get(folder)
        if upload is not None and upload.busy:
            return False
        # Requests begin on this thread, so none can begin to use it before it is gone.
        doomed = self._disk.temporary()
        try:
            if _last_change(folder) > state.changed:
                return False
            folder.replace(doomed)
        except FileNotFoundError:
            return False
        self._known.pop(folder, None)
        await asyncio.to_thread(shutil.rmtree, doomed, True)
        return True

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
        disk: Disk,
        size: int,
        sha256: Hasher | None,
    ) -> None:
        self.folder = folder
        self._data = folder / "data"
        self.id = upload_id
        self.size = size
        self.busy = False
        self._wanted = True
        self._sha256 = sha256
        self._disk = disk

    @classmethod
    def create(
        cls, folder: Path, upload_id: UploadId, disk: Disk, *, wanted: bool = True
    ) -> FileUpload:
        """Make an empty upload; not synced, since nothing is promised before commit."""
        disk.space.require()
        folder.mkdir(parents=True)
        started = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        create(folder / "startedat", started.encode())
        create(folder / "data")
        made = cls(folder, upload_id, disk, 0, hasher("sha256"))
        made._wanted = wanted
        return made

    async def append(self, chunks: AsyncIterator[bytes]) -> None:
        with self._exclusive():
            sha256 = await self._hash_state()
            try:
                writer = Writer(self._data, self.size, durable=self._disk.durable)
                try:
                    async for chunk in chunks:
                        self._disk.space.require()
                        writer.write(chunk)
                        sha256.update(chunk)
                        self.size += len(chunk)
                finally:
                    await writer.close()
            except OSError:
                self._sha256 = None
                raise

    async def commit(self, digest: Digest) -> None:
        with self._exclusive():
            if digest.algorithm == "sha256":
                actual = (await self._hash_state()).hexdigest()
            else:
                actual = (
                    await asyncio.to_thread(hash_file, self._data, digest.algorithm)
                ).hexdigest()
            if actual == digest.hex:
                await self._publish(digest)
            await self._forget()
        if actual != digest.hex:
            raise DigestInvalid(
                f"content is {digest.algorithm}:{actual}, not {digest}; push it again"
            )

    async def cancel(self) -> None:
        with self._exclusive():
            await self._forget()

    def reader(self) -> FileReader:
        return FileReader(self._data)

    async def _publish(self, digest: Digest) -> None:
        """Make the content visible, in place of what may be there: that may have been damaged."""
        path = layout.blob(self._disk.storage, digest)
        if not self._wanted:
            os.utime(self._data, (0, 0))
            # What upstream sends again replaces nothing: the time of what is there may promise it.
            if not self._disk.touch(path):
                await self._disk.publish(self._data, path)
        elif self.size <= _SMALL:
            await self._disk.adopt(self._data, path)
        else:
            await self._disk.publish(self._data, path)
        self._data = path

    async def _forget(self) -> None:
        """Remove the session; of a large blob that was refused, the content takes a while."""
        if self.size <= _SMALL:
            _remove_session(self.folder)
        else:
            await asyncio.to_thread(_remove_session, self.folder)

    async def _hash_state(self) -> Hasher:
        """Return the running hash; after a restart it is computed again from the file."""
        if self._sha256 is None:
            self._sha256 = await asyncio.to_thread(hash_file, self._data, "sha256")
            self.size = self._data.stat().st_size
        return self._sha256

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        if self.busy:
            raise BlobUploadInvalid("another request is writing to this upload; wait for it to end")
        self.busy = True
        try:
            yield
        finally:
            self.busy = False


class FileReader:
    """Read a file that another request may still be writing, and that may be renamed meanwhile."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    async def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def close(self) -> None:
        os.close(self._descriptor)


def new_id() -> UploadId:
    return UploadId(uuid.uuid4())


def _remove_session(folder: Path) -> None:
    """Remove a session's folder; what is in it is known mostly, and looking costs more."""
    with contextlib.suppress(OSError):
        for name in ("data", "startedat"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
        return
    shutil.rmtree(folder, ignore_errors=True)


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
