# SPDX-License-Identifier: Apache-2.0
"""Durable changes of a folder tree.

Small files and removals are durable by a log (``wal.py``). A large file appears by fsync, rename,
and fsync of its folder; a folder that had to be made for it is durable when its parent is synced
as well. ext4 and XFS promise no more than that (rename(2), fsync(2)).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import itertools
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

from buildset_registry.errors import ConfigError, StoreInUse
from buildset_registry.parallel import to_its_end
from buildset_registry.store.filesystem import layout
from buildset_registry.store.filesystem.caches import FileCache
from buildset_registry.store.filesystem.files import create, file_state, read_file, sync
from buildset_registry.store.filesystem.hashing import Hashers
from buildset_registry.store.filesystem.space import Space
from buildset_registry.store.filesystem.wal import WriteAheadLog
from buildset_registry.store.filesystem.wal_format import Kind, replay

#: Folders that are noted as synced; past this many, all are forgotten and synced again when used.
_NOTED_FOLDERS = 10_000
#: Attempts to publish a file into a folder that others remove.
_ATTEMPTS = 5


class Disk:
    """One storage folder, used by this process alone; not ``durable``, it syncs nothing."""

    def __init__(self, storage: Path, floor: int | None = None, *, durable: bool = True) -> None:
        self.storage = storage
        self.durable = durable
        self._temporary = str(layout.temporary(storage))
        self._numbers = itertools.count(1)
        self._synced: set[Path] = set()
        self._cache = FileCache()
        self._removing = threading.Lock()
        self._unsettled: dict[str, asyncio.Future[None]] = {}
        self._lock = _prepare(storage)
        self.space = Space(storage, floor)
        self.hashers = Hashers()
        log = layout.log(storage)
        try:
            replay(log, self._write_again, self._remove_again)
        except OSError as error:
            os.close(self._lock)
            raise ConfigError(
                f"cannot bring {storage} up to date from {log}: {error.strerror}; "
                "look after its disk, and start again"
            ) from None
        self._log = WriteAheadLog(storage, log, durable=durable)

    def close(self) -> None:
        """Let another process have the folder."""
        self._log.close()
        os.close(self._lock)

    def temporary(self) -> Path:
        """Return a new name for a file or folder on the same filesystem; lost at a restart."""
        return Path(f"{self._temporary}/{next(self._numbers)}")

    def read(self, name: str) -> tuple[bytes, float] | None:
        """Return a small file's content and its mtime, or None where there is none."""
        return self._cache.get(name, read_file)

    def state(self, name: str) -> tuple[int, float] | None:
        """Return a file's size in bytes and its mtime, or None where there is none."""
        return self._cache.get(name, file_state)

    async def write(self, name: str, content: bytes) -> None:
        """Create or replace a small file, at once and whole."""
        make = partial(self._write, name, content)
        await self._log.change(Kind.WRITTEN, name, make, content)

    async def adopt(self, source: Path, target: Path) -> None:
        """Rename a small file that was written elsewhere in the storage, its content recorded."""
        found = read_file(source)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        make = partial(self._appear, str(source), str(target))
        await self._log.change(Kind.WRITTEN, str(target), make, found[0])

    async def publish(self, source: Path, target: Path, *, timeless: bool = False) -> None:
        """Sync a finished file of any size and rename it to where it becomes visible.

        ``timeless``, it takes the time of what it replaces.
        """
        await asyncio.to_thread(self._sync_and_make, source, target.parent)
        name = str(target)
        async with self._settling(name):
            replace = partial(self._replace, str(source), name, timeless=timeless)
            new = await self._rename_into(target, replace)
            try:
                await asyncio.to_thread(self._sync, target.parent)
            except OSError:
                if new:
                    await asyncio.to_thread(self._take_back, name)
                raise

    async def settled(self, name: str) -> None:
        """Wait until a file that is being published has its name on disk, or not."""
        while (settling := self._unsettled.get(name)) is not None:
            await asyncio.wait([settling])

    @contextlib.asynccontextmanager
    async def _settling(self, name: str) -> AsyncIterator[None]:
        """Let those wait who would promise a file; one at a time publishes it."""
        await self.settled(name)
        settling = self._unsettled[name] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            del self._unsettled[name]
            settling.set_result(None)

    async def _rename_into(self, target: Path, replace: Callable[[], bool]) -> bool:
        """Rename by ``replace``, also where others remove the folder, or put one in the way."""
        for _attempt in range(_ATTEMPTS - 1):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return await self._log.change(Kind.KEPT, str(target), replace)
            await asyncio.to_thread(self._clear, str(target))
            await asyncio.to_thread(self._make, target.parent)
        return await self._log.change(Kind.KEPT, str(target), replace)

    def touch(self, name: str, *, timeless: bool = False) -> bool:
        """Let a file's time be now, or only that of its last change; False where there is none."""
        with self._removing:
            try:
                if timeless:
                    state = os.stat(name)  # noqa: PTH116  # a text, as everywhere here
                    os.utime(name, ns=(state.st_atime_ns, state.st_mtime_ns))
                else:
                    os.utime(name)
            except FileNotFoundError:
                return False
            self._cache.changed(name)
            return True

    async def remove_if(self, folder: Path, unwanted: Callable[[], bool]) -> bool:
        """Remove a folder if nothing came in between that makes it wanted.

        Between the question and the removal no file is published and none is touched.
        """
        return await to_its_end(self._remove_if(folder, unwanted))

    async def _remove_if(self, folder: Path, unwanted: Callable[[], bool]) -> bool:
        doomed = self.temporary()

        def remove() -> bool:
            with self._removing:
                removed = unwanted() and _move(folder, doomed)
                if removed:
                    self._cache.removed()
                return removed

        removed = await self._log.change(Kind.REMOVED, str(folder), remove, decided_late=True)
        if removed:
            await asyncio.to_thread(self._delete, folder, doomed)
        return removed

    async def remove_tree(self, folder: Path) -> bool:
        """Remove a folder and what is in it, at once for readers; False where there was none."""
        return await self.remove_if(folder, lambda: True)

    def _sync_and_make(self, source: Path, folder: Path) -> None:
        self._sync(source)
        self._make(folder)

    def _sync(self, path: Path) -> None:
        """Wait until a file or a folder is on disk, where that is wanted."""
        if self.durable:
            sync(path)

    def _write(self, name: str, content: bytes) -> None:
        """Make a file whose content a record has: nothing is synced."""
        temporary = f"{self._temporary}/{next(self._numbers)}"
        try:
            create(temporary, content)
            self._appear(temporary, name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _appear(self, source: str, target: str) -> None:
        try:
            self._rename(source, target)
        except FileNotFoundError:
            _make_folders(target.rpartition("/")[0])
            self._rename(source, target)
        except (IsADirectoryError, NotADirectoryError):
            self._clear(target)
            _make_folders(target.rpartition("/")[0])
            self._rename(source, target)

    def _clear(self, target: str) -> None:
        """Take away what is in the way of a file: a folder of its name, a file as its folder."""
        above = [self.storage / folder for folder in Path(target).relative_to(self.storage).parents]
        with self._removing:
            wrong = [
                place
                for place in reversed(above)
                if place.is_symlink() or (place.exists() and not place.is_dir())
            ]
            if Path(target).is_dir():
                wrong.append(Path(target))
            for place in wrong:
                _move(place, self.temporary())
            if wrong:
                self._synced.clear()
                self._cache.removed()

    def _rename(self, source: str, target: str) -> None:
        with self._removing:
            os.replace(source, target)  # noqa: PTH105  # a Path made of its answer costs more
            self._cache.changed(target)

    def _replace(self, source: str, target: str, *, timeless: bool) -> bool:
        """Rename a file, and tell whether there was none before."""
        with self._removing:
            try:
                before = os.stat(target)  # noqa: PTH116  # a text, as everywhere here
            except FileNotFoundError:
                before = None
            if timeless and before is not None:
                os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
            os.replace(source, target)  # noqa: PTH105  # a Path made of its answer costs more
            self._cache.changed(target)
        return before is None

    def _take_back(self, name: str) -> None:
        """Remove a file whose name may not be on disk, so that it is made again."""
        with self._removing:
            Path(name).unlink(missing_ok=True)
            self._cache.changed(name)

    def _write_again(self, path: str, content: bytes) -> None:
        name = f"{self.storage}/{path}"
        try:
            self._write(name, content)
        except OSError as error:
            # The disk may be full; after a mere kill, everything is there.
            found = read_file(name)
            if error.errno != errno.ENOSPC or found is None or found[0] != content:
                raise

    def _remove_again(self, path: str) -> None:
        doomed = self.temporary()
        if _move(self.storage / path, doomed):
            _discard(doomed)  # of a change that failed once, it is a file

    def _delete(self, folder: Path, doomed: Path) -> None:
        """Delete what was ``folder`` and is ``doomed`` now."""
        for found, *_others in os.walk(doomed):
            self._synced.discard(folder / Path(found).relative_to(doomed))
        shutil.rmtree(doomed, ignore_errors=True)

    def _make(self, folder: Path) -> None:
        """Make a folder, and those above it, by whose own syncs it is durable."""
        if not folder.is_dir():
            self._clear(f"{folder}/data")
        missing = []
        while folder not in self._synced and folder != self.storage:
            missing.append(folder)
            folder = folder.parent
        if not missing:
            return
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            try:
                self._sync(folder.parent)
            except OSError:
                with contextlib.suppress(OSError):
                    folder.rmdir()  # a folder that is made again is synced again
                raise
        if len(self._synced) > _NOTED_FOLDERS:
            self._synced.clear()
        self._synced.update(missing)


class ReadingDisk(Disk):
    """A storage folder that is only looked at, while another process may use it."""

    def __init__(self, storage: Path) -> None:
        self.storage = storage
        self.space = Space(storage)

    def read(self, name: str) -> tuple[bytes, float] | None:
        """Look each time."""
        return read_file(name)

    def state(self, name: str) -> tuple[int, float] | None:
        """Look each time."""
        return file_state(name)

    def close(self) -> None:
        """Nothing is held."""

    def touch(self, name: str, *, timeless: bool = False) -> bool:
        """Leave the time of a file; False where there is none."""
        return file_state(name) is not None


def _make_folders(name: str) -> None:
    """Make a folder and those above it; as ``Path.mkdir`` does, which costs twice as much."""
    with contextlib.suppress(FileExistsError):
        try:
            os.mkdir(name)  # noqa: PTH102  # see above
        except FileNotFoundError:
            _make_folders(name.rpartition("/")[0])
            os.mkdir(name)  # noqa: PTH102


def _move(folder: Path, doomed: Path) -> bool:
    """Take a folder out of the way; False where there is none."""
    try:
        os.replace(folder, doomed)  # noqa: PTH105  # a Path made of its answer costs more
    except FileNotFoundError:
        return False
    return True


def _prepare(storage: Path) -> int:
    """Make the folder, take its lock, and forget what an earlier process left half-written."""
    try:
        storage.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(layout.lock(storage), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(
            f"cannot use {storage} as storage: {error.strerror}; "
            "name a folder that this user may write"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        raise StoreInUse(
            f"{storage} is in use by another buildset-registry; "
            "stop that one or name another folder"
        ) from None
    temporary = layout.temporary(storage)
    temporary.mkdir(exist_ok=True)
    for entry in temporary.iterdir():
        _discard(entry)
    layout.log(storage).mkdir(exist_ok=True)
    return descriptor


def _discard(path: Path) -> None:
    """Remove a file or a folder with what is in it, as far as that goes."""
    with contextlib.suppress(OSError):
        path.unlink()
        return
    shutil.rmtree(path, ignore_errors=True)
