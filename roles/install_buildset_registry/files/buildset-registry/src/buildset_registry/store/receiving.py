# SPDX-License-Identifier: Apache-2.0
"""What arrives of a blob: in memory while it is small and may be whole, then in a folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timezone
from pathlib import Path

from buildset_registry.errors import BlobUploadInvalid, DigestInvalid
from buildset_registry.oci.digest import Digest, Hasher, hasher
from buildset_registry.oci.names import UploadId
from buildset_registry.store import layout
from buildset_registry.store.disk import Disk, create, file_state
from buildset_registry.store.hashing import hash_file
from buildset_registry.store.writing import Writer

#: Bytes up to which a blob stays in memory until it is whole, and goes to the disk by the log: to
#: write it twice costs less than syncs.
_SMALL = 64 * 1024


class FileUpload:
    """A folder with ``data`` and ``startedat``, as distribution keeps an upload.

    The folder is made when something arrives that is large, or that a later request may go on
    with: a small blob that comes in one request never has one.
    """

    def __init__(
        self, folder: Path, upload_id: UploadId, disk: Disk, *, stored: int | None = None
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
        self._wanted = True
        self._sha256 = hasher("sha256") if stored is None else None
        self._disk = disk

    @classmethod
    def download(cls, folder: Path, disk: Disk) -> FileUpload:
        """Begin what no client asked to keep; it has its folder, since it is read meanwhile."""
        disk.space.require()
        made = cls(folder, UploadId.new(), disk)
        made._wanted = False
        made.save()
        return made

    @property
    def begun(self) -> float:
        """When it began, in seconds since the epoch; 0 where its identifier does not tell."""
        return self.id.made or 0

    def exists(self) -> bool:
        """Whether it can go on: it has not ended, and nobody removed its folder."""
        return not self.ended and (self.in_memory or file_state(str(self._data)) is not None)

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
                _remove_session(self._folder)
                self._make(self._content)
        except OSError:
            _remove_session(self._folder)
            raise
        self._content = None

    def _make(self, content: bytes) -> None:
        self._folder.mkdir(parents=True)
        started = datetime.fromtimestamp(self.begun, timezone.utc)
        create(self._folder / "startedat", started.strftime("%Y-%m-%dT%H:%M:%SZ").encode())
        create(self._data, content)

    async def append(self, chunks: AsyncIterator[bytes], *, last: bool = False) -> None:
        with self._exclusive():
            sha256 = await self._hash_state()
            try:
                if not last:
                    self.save()
                await self._take(chunks, sha256)
            except OSError:
                if not self.in_memory:
                    self._sha256 = None  # more may be in the file than was counted
                raise

    async def _take(self, chunks: AsyncIterator[bytes], sha256: Hasher) -> None:
        writer: Writer | None = None
        try:
            async for chunk in chunks:
                self._disk.space.require()
                if self._content is not None and self.size + len(chunk) <= _SMALL:
                    self._content += chunk
                else:
                    if writer is None:
                        self.save()
                        writer = Writer(self._data, self.size, durable=self._disk.durable)
                    writer.write(chunk)
                sha256.update(chunk)
                self.size += len(chunk)
        finally:
            if writer is not None:
                await writer.close()

    async def commit(self, digest: Digest) -> None:
        with self._exclusive():
            actual = await self._digest(digest.algorithm)
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

    async def _digest(self, algorithm: str) -> str:
        """Return the digest of what arrived, in hexadecimal."""
        if algorithm == "sha256":
            return (await self._hash_state()).hexdigest()
        if self._content is not None:
            return Digest.of(self._content, algorithm).hex
        return (await asyncio.to_thread(hash_file, self._data, algorithm)).hexdigest()

    async def _publish(self, digest: Digest) -> None:
        """Make the content visible, in place of what may be there: that may have been damaged."""
        path = layout.blob(self._disk.storage, digest)
        if not self._wanted:
            os.utime(self._data, (0, 0))
            # What upstream sends again replaces nothing: the time of what is there may promise it.
            if not self._disk.touch(str(path)):
                await self._disk.publish(self._data, path)
        elif self._content is not None:
            await self._disk.write(str(path), self._content)
        elif self.size <= _SMALL:
            await self._disk.adopt(self._data, path)
        else:
            await self._disk.publish(self._data, path)
        self._data = path

    async def _forget(self) -> None:
        """Remove the session; of a large blob that was refused, the content takes a while."""
        self.ended = True
        if self._content is not None:
            self._content = b""
        elif self.size <= _SMALL:
            _remove_session(self._folder)
        else:
            await asyncio.to_thread(_remove_session, self._folder)

    async def _hash_state(self) -> Hasher:
        """Return the running hash; after a restart it is computed again from the file."""
        if self._sha256 is None:
            self._sha256 = await asyncio.to_thread(hash_file, self._data, "sha256")
            self.size = self._data.stat().st_size
        return self._sha256

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Let one request use it; of one that fails, what arrived is on disk for the next."""
        if self.busy:
            raise BlobUploadInvalid("another request is writing to this upload; wait for it to end")
        self.busy = True
        try:
            yield
        except BaseException:
            self.save()
            raise
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


def _remove_session(folder: Path) -> None:
    """Remove a session's folder; what is in it is known mostly, and looking costs more."""
    with contextlib.suppress(OSError):
        for name in ("data", "startedat"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
        return
    shutil.rmtree(folder, ignore_errors=True)
