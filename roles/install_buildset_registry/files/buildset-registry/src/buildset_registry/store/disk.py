# SPDX-License-Identifier: Apache-2.0
"""Durable changes of a folder tree: synchronous, for worker threads.

A file appears by fsync, rename, and fsync of its folder; a folder that had to be made is durable
when its parent is synced as well. ext4 and XFS promise no more than that (rename(2), fsync(2)).
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from buildset_registry.errors import ConfigError
from buildset_registry.store import layout
from buildset_registry.store.space import Space

Result = TypeVar("Result")

#: Folders remembered as durable; past this many, all are forgotten and synced again when used.
_REMEMBERED = 10_000


class Disk:
    """One storage folder, used by this process alone; ``durable`` or not: see the setting."""

    def __init__(self, storage: Path, floor: int | None = None, *, durable: bool = True) -> None:
        self.storage = storage
        self.durable = durable
        self._temporary = layout.temporary(storage)
        self._durable: set[Path] = set()
        self._removing = threading.Lock()
        self._lock = _prepare(storage)
        self.space = Space(storage, floor)

    def close(self) -> None:
        """Let another process have the folder."""
        os.close(self._lock)

    def temporary(self) -> Path:
        """Return a new name for a file or folder on the same filesystem; lost at a restart."""
        return self._temporary / uuid.uuid4().hex

    def write(self, path: Path, content: bytes) -> None:
        """Create or replace a file, at once and whole."""
        temporary = self.temporary()
        try:
            create(temporary, content, durable=self.durable)
            self._appear(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def publish(self, source: Path, target: Path) -> None:
        """Sync a finished file and rename it to where it becomes visible."""
        self.sync(source)
        self._appear(source, target)

    def sync(self, path: Path) -> None:
        """Wait until a file or a folder is on disk, where that is wanted."""
        if not self.durable:
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _appear(self, source: Path, target: Path) -> None:
        def appear() -> None:
            with self._removing:
                os.replace(source, target)  # noqa: PTH105  # a Path made of its answer costs more

        self._in_folder(target.parent, appear)

    def settle(self, path: Path) -> bool:
        """Make a file that is there already durable, and new to the collector; False if none is."""
        if not self.touch(path):
            return False
        self.sync(path)
        self._in_folder(path.parent, lambda: None)
        return True

    def touch(self, path: Path) -> bool:
        """Let a file's time be now; False where there is none."""
        with self._removing:
            try:
                os.utime(path)
            except FileNotFoundError:
                return False
            return True

    def remove_if(self, folder: Path, unwanted: Callable[[], bool]) -> bool:
        """Remove a folder if nothing came in between that makes it wanted.

        Between the question and the removal no file is published and none is touched.
        """
        doomed = self.temporary()
        with self._removing:
            if not unwanted():
                return False
            try:
                folder.replace(doomed)
            except FileNotFoundError:
                return False
        self._forget(folder, doomed)
        return True

    def remove_file(self, path: Path) -> bool:
        """Remove a file durably; False where there was none."""
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        self.sync(path.parent)
        return True

    def remove_tree(self, folder: Path) -> bool:
        """Remove a folder and what is in it, at once for readers; False where there was none."""
        doomed = self.temporary()
        try:
            folder.replace(doomed)
        except FileNotFoundError:
            return False
        self.sync(folder.parent)
        self._forget(folder, doomed)
        return True

    def _forget(self, folder: Path, doomed: Path) -> None:
        """Delete what was ``folder`` and is ``doomed`` now."""
        for found, *_others in os.walk(doomed):
            self._durable.discard(folder / Path(found).relative_to(doomed))
        shutil.rmtree(doomed, ignore_errors=True)

    def _in_folder(self, folder: Path, change: Callable[[], object]) -> None:
        """Do ``change`` inside a folder that is made where missing, then sync the folder.

        The folder may be removed by another request in between: then it is made again.
        """
        for attempt in range(5):
            try:
                self._make(folder)
                change()
                self.sync(folder)
                return
            except FileNotFoundError:
                if attempt == 4:
                    raise
                self._durable.clear()

    def _make(self, folder: Path) -> None:
        missing = []
        while folder not in self._durable and folder != self.storage:
            missing.append(folder)
            folder = folder.parent
        if not missing:
            return
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            self.sync(folder.parent)
        if len(self._durable) > _REMEMBERED:
            self._durable.clear()
        self._durable.update(missing)


class ReadingDisk(Disk):
    """A storage folder that is only looked at, while another process may use it."""

    def __init__(self, storage: Path) -> None:
        self.storage = storage
        self.space = Space(storage)

    def close(self) -> None:
        """Nothing is held."""

    def touch(self, path: Path) -> bool:
        """Leave the time of a file; False where there is none."""
        return path.exists()


def read_file(path: Path | str) -> tuple[bytes, float] | None:
    """Return a small file's content and its mtime, or None; a third of what ``Path.open`` costs."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        state = os.fstat(descriptor)
        content = os.read(descriptor, state.st_size)
        while len(content) < state.st_size and (more := os.read(descriptor, state.st_size)):
            content += more
        return content, state.st_mtime
    finally:
        os.close(descriptor)


def create(path: Path, content: bytes = b"", *, durable: bool) -> None:
    """Write a new small file, and sync it where that is wanted, by one open."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
        raise ConfigError(
            f"{storage} is in use by another buildset-registry; "
            "stop that one or name another folder"
        ) from None
    temporary = layout.temporary(storage)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(exist_ok=True)
    return descriptor
