# SPDX-License-Identifier: Apache-2.0
"""Uploads: sessions in distribution's ``_uploads`` once something arrived, and downloads."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timezone
from pathlib import Path
from weakref import WeakValueDictionary

from buildset_registry.errors import BlobUploadInvalid, BlobUploadUnknown, DigestInvalid
from buildset_registry.oci.digest import Digest, Hasher
from buildset_registry.oci.names import RepositoryName, UploadId
from buildset_registry.parallel import to_its_end
from buildset_registry.store.base import UploadState
from buildset_registry.store.filesystem import layout
from buildset_registry.store.filesystem.disk import Disk
from buildset_registry.store.filesystem.files import (
    FileReader,
    SyncFailed,
    Writer,
    create,
    file_state,
    hash_file,
)
from buildset_registry.store.filesystem.hashing import Hashing
from buildset_registry.store.filesystem.links import walk

#: Sessions in memory, with the state of their hashes; others are read when they go on.
_KEPT_SESSIONS = 1024
#: Seconds before the start of the process in which an unknown session may have begun.
_EARLIER_SECONDS = 3600.0
#: Bytes up to which a blob stays in memory until it is whole, and goes to the disk by the log: to
#: write it twice costs less than syncs.
_SMALL = 64 * 1024
#: Bytes after which it is worth a thread to hash what upstream sends.
_LARGE = 1024 * 1024


class FileUploads:
    """``repositories/<name>/_uploads/<uuid>``, with the state of hashes that are under way.

    A session of which nothing arrived yet is in memory. It outlives the process all the same: its
    identifier tells that it began before this process, which takes it for an empty one.
    """

    def __init__(self, storage: Path, disk: Disk, kept_sessions: int = _KEPT_SESSIONS) -> None:
        self._storage = storage
        self._disk = disk
        self._kept_sessions = kept_sessions
        self._sessions: OrderedDict[tuple[RepositoryName, UploadId], FileUpload] = OrderedDict()
        #: Those that a request holds are found again, however many others came since.
        self._held: WeakValueDictionary[tuple[RepositoryName, UploadId], FileUpload]
        self._held = WeakValueDictionary()
        self._started = time.time_ns() // 1_000_000 / 1000  # as exact as an identifier

    async def create(self, name: RepositoryName) -> FileUpload:
        self._disk.space.require()
        return self._keep(name, self._begin(name, UploadId.new()))

    async def resume(self, name: RepositoryName, upload_id: UploadId) -> FileUpload:
        upload = self._held.get((name, upload_id))
        if upload is None:
            return self._keep(name, self._find(name, upload_id))
        if not upload.exists():
            raise BlobUploadUnknown
        if upload.size:  # the client is about to be told so
            upload.save()
        return self._keep(name, upload)

    async def ingest(self, digest: Digest) -> FileUpload:
        """Begin what no client asked to keep; it has its folder, since it is read meanwhile."""
        self._disk.space.require()
        upload = FileUpload(self._disk.temporary(), UploadId.new(), self._disk, promised=False)
        upload.save()
        return upload

    async def all(self, *, tidy: bool = False) -> list[UploadState]:
        found = [
            UploadState(name, upload_id, upload.size, upload.begun)
            for (name, upload_id), upload in self._sessions.items()
            if upload.in_memory and not upload.ended
        ]
        return found + await asyncio.to_thread(lambda: list(_walk_uploads(self._storage)))

    async def expire(self, state: UploadState) -> bool:
        upload = self._held.get((state.name, state.id))
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
        """Return a session that this process did not begin, or keeps on the disk alone."""
        folder = self._folder(name, upload_id)
        state = file_state(str(folder / "data"))
        if state is not None:
            return FileUpload(folder, upload_id, self._disk, stored=state[0])
        made = upload_id.made
        if made is None or not 0 < self._started - made < _EARLIER_SECONDS:
            raise BlobUploadUnknown
        return self._begin(name, upload_id)

    def _keep(self, name: RepositoryName, upload: FileUpload) -> FileUpload:
        key = (name, upload.id)
        while key not in self._sessions and len(self._sessions) >= self._kept_sessions:
            oldest = next(iter(self._sessions))
            self._sessions[oldest].save()
            del self._sessions[oldest]
        self._sessions[key] = self._held[key] = upload
        self._sessions.move_to_end(key)
        return upload


class FileUpload:
    """A folder with ``data`` and ``startedat``, as distribution keeps an upload.

    The folder is made when something arrives that is large, or that a later request may go on
    with: a small blob that comes in one request never has one.
    """

    def __init__(
        self,
        folder: Path,
        upload_id: UploadId,
        disk: Disk,
        *,
        stored: int | None = None,
        promised: bool = True,
    ) -> None:
        """Begin an empty upload, or go on with one whose folder has ``stored`` bytes."""
        self._folder = folder
        self._data = folder / "data"
        self.id = upload_id
        self.size = stored or 0
        self.busy = False
        self.ended = False
        #: All that arrived, as long as there is no folder.
        self._content: bytes | None = b"" if stored is None else None
        #: Whether a client that pushes gave it, and is to be told that it is here.
        self._promised = promised
        self._sha256: Hasher | None = hashlib.sha256() if stored is None else None
        self._writer: Writer | None = None
        self._hashing: Hashing | None = None
        self._disk = disk

    @property
    def begun(self) -> float:
        """When it began, in seconds since the epoch; 0 where its identifier does not tell."""
        return self.id.made or 0

    def exists(self) -> bool:
        """Whether it can go on: it has not ended, and nobody removed its folder."""
        if self.ended:
            return False
        return self._content is not None or file_state(str(self._data)) is not None

    @property
    def in_memory(self) -> bool:
        """Whether there is no folder."""
        return self._content is not None

    def save(self) -> None:
        """Make the folder; not synced, since nothing is promised before commit."""
        if self._content is None or self.ended:
            return
        try:
            try:
                self._make(self._content)
            except FileExistsError:  # a crash left it half made
                _remove(self._folder)
                self._make(self._content)
        except OSError:
            _remove(self._folder)
            raise
        self._content = None

    def _make(self, content: bytes) -> None:
        self._folder.mkdir(parents=True)
        started = datetime.fromtimestamp(self.id.made or 0, timezone.utc)
        create(self._folder / "startedat", started.strftime("%Y-%m-%dT%H:%M:%SZ").encode())
        create(self._data, content)

    async def append(self, chunks: AsyncIterator[bytes], *, last: Digest | None = None) -> None:
        with self._exclusive():
            await self._settle()  # after one that was cancelled
            sha256 = await self._hash_state()
            if last is None:
                self.save()
            try:
                await self._take(chunks, sha256)
            finally:
                await self._settle()

    async def _take(self, chunks: AsyncIterator[bytes], sha256: Hasher) -> None:
        async for chunk in chunks:
            self._disk.space.require()
            if self._content is not None and self.size + len(chunk) <= _SMALL:
                self._content += chunk
            else:
                if self._writer is None:
                    self.save()
                    self._writer = Writer(self._data, self.size, durable=self._disk.durable)
                self._writer.write(chunk)
            await self._hash(chunk, sha256)
            self.size += len(chunk)

    async def _hash(self, chunk: bytes, sha256: Hasher) -> None:
        """Hash a piece; in a thread where much comes from upstream, and one is free."""
        if self._hashing is None and not self._promised and self.size >= _LARGE:
            self._hashing = self._disk.hashers.begin(sha256)
        if self._hashing is None:
            sha256.update(chunk)
        else:
            await self._hashing.update(chunk)

    async def _settle(self) -> None:
        """Close what an append wrote to, also one that was broken off: its syncs may fail."""
        if self._hashing is not None:
            await self._hashing.finish()
            self._hashing = None
        if self._writer is not None:
            await self._writer.close()
            self._writer = None

    async def commit(self, digest: Digest) -> None:
        with self._exclusive():
            await self._settle()
            if digest.algorithm == "sha256":
                actual = (await self._hash_state()).hexdigest()
            elif self._content is not None:
                actual = Digest.of(self._content, digest.algorithm).hex
            else:
                state = await asyncio.to_thread(hash_file, self._data, digest.algorithm)
                actual = state.hexdigest()
            ending = self._publish(digest) if actual == digest.hex else self._forget()
            await (to_its_end(ending) if self._promised else ending)
        if actual != digest.hex:
            raise DigestInvalid(
                f"content is {digest.algorithm}:{actual}, not {digest}; push it again"
            )

    async def cancel(self) -> None:
        if not self.ended:
            with self._exclusive():
                await self._settle()
                await self._forget()

    def reader(self) -> FileReader:
        return FileReader(self._data)

    async def _publish(self, digest: Digest) -> None:
        """Make the content visible, in place of what may be there: that may have been damaged.

        Nothing is left of the session then.
        """
        path = layout.blob(self._disk.storage, digest)
        if not self._promised:
            os.utime(self._data, (0, 0))
            # Of what upstream sends again, the time stays that may promise it.
            await self._disk.publish(self._data, path, timeless=True)
        elif self._content is not None:
            await self._disk.write(str(path), self._content)
        elif self.size <= _SMALL:
            await self._disk.adopt(self._data, path)
        else:
            await self._disk.publish(self._data, path)
        self._data = path
        await self._forget()

    async def _forget(self) -> None:
        """Remove the session; of a large blob that was refused, the content takes a while."""
        self.ended = True
        if self._content is not None:
            self._content = b""
        elif self.size <= _SMALL:
            _remove(self._folder)
        else:
            await asyncio.to_thread(_remove, self._folder)

    async def _hash_state(self) -> Hasher:
        """Return the running hash; after a restart it is computed again from the file."""
        if self._sha256 is None:
            self._sha256 = await asyncio.to_thread(hash_file, self._data, "sha256")
            self.size = self._data.stat().st_size
        return self._sha256

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Let one request use it; of one that fails, what arrived is on disk for the next.

        What the disk failed to sync nobody goes on with: it has to be sent again.
        """
        if self.busy:
            raise BlobUploadInvalid("another request is writing to this upload; wait for it to end")
        if self.ended:
            raise BlobUploadUnknown
        self.busy = True
        try:
            yield
        except SyncFailed:
            self.ended = True
            _remove(self._folder)
            raise
        except BaseException:
            self.save()
            raise
        finally:
            self.busy = False


def _remove(folder: Path) -> None:
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
