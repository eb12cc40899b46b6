# SPDX-License-Identifier: Apache-2.0
"""A log that is written ahead of small changes: one sync for all that wait, then they are made.

A change is durable when its record is. The files themselves are left to the kernel; when the log
has grown, or nothing has come for a while, everything is synced and the log begins anew. After a
crash, what the log holds is done again (``wal_format.py``). One thread makes all changes, in the
order of their records, so that doing them again leaves the same.

Where the disk fails to sync, what was made since the last sync may be lost, and no later sync
tells. From then on all logs are kept, until the next start does again what they tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from buildset_registry.background import told
from buildset_registry.store.filesystem.files import SyncFailed
from buildset_registry.store.filesystem.wal_format import (
    Kind,
    LogFile,
    record,
    settle,
    standing,
    sync_everything,
)

_log = logging.getLogger("buildset_registry.store")

Result = TypeVar("Result")

#: Bytes of a log past which the next one begins.
_LARGE = 8 * 1024 * 1024
#: Seconds without a change after which everything is synced.
_IDLE = 2.0
#: Seconds between an error that nobody foresaw and the next change.
_REST = 0.1
#: Seconds that the end waits for the disk, which may have others to serve.
_CLOSE_SECONDS = 10.0


@dataclass(slots=True)
class Change:
    """A change that somebody waits for."""

    kind: Kind
    path: str
    make: Callable[[], Any]
    content: bytes
    decided_late: bool
    """Whether only making it tells if there is anything to record: it is made first."""

    loop: asyncio.AbstractEventLoop
    waiting: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class WriteAheadLog:
    """The log of one storage folder, in which no earlier one is left. Close it at the end."""

    def __init__(self, storage: Path, folder: Path, *, durable: bool, large: int = _LARGE) -> None:
        self._storage = storage
        self._folder = folder
        self._durable = durable
        self._large = large
        self._file: LogFile | None = None
        self._trusted = True
        self._number = 0
        self._changes: list[Change] = []
        #: Paths of which the logs may say something else than what is there.
        self._owed: set[str] = set()
        self._some = threading.Condition()
        self._closed = False
        self._syncing: threading.Thread | None = None
        self._thread: threading.Thread | None = None

    async def change(
        self,
        kind: Kind,
        path: str,
        make: Callable[[], Result],
        content: bytes = b"",
        *,
        decided_late: bool = False,
    ) -> Result:
        """Record a change, make it, and return what making it gave; raises its ``OSError``."""
        loop = asyncio.get_running_loop()
        waiting = loop.create_future()
        change = Change(kind, path, make, content, decided_late, loop, waiting)
        with self._some:
            if self._closed:
                raise OSError(errno.ESHUTDOWN, "the storage is closed")
            if self._thread is None:
                self._thread = _begin("log", self._go_on)
            self._changes.append(change)
            self._some.notify()
        try:
            result: Result = await asyncio.shield(waiting)
        except asyncio.CancelledError:
            # It is made all the same: whoever has a turn for it keeps it until then.
            while not waiting.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([waiting])
            raise
        return result

    def close(self) -> None:
        """Make what waits, sync everything, and leave no log; one where the disk is too busy."""
        with self._some:
            self._closed = True
            self._some.notify()
        if self._thread is not None:
            self._thread.join()
        if self._syncing is not None:
            self._syncing.join()
        self._next()
        if self._syncing is not None:
            self._syncing.join(_CLOSE_SECONDS)

    def _go_on(self) -> None:
        """Take changes until the end; an error that nobody foresaw ends none but those it met."""
        while True:
            try:
                self._run()
                return
            except Exception as error:
                _log.error("the log of %s failed: %s; it goes on", self._storage, told(error))
                time.sleep(_REST)

    def _run(self) -> None:
        while True:
            with self._some:
                if not self._changes and not self._closed:
                    self._some.wait(_IDLE if self._file is not None else None)
                group, self._changes = self._changes, []
                if not group and self._closed:
                    return
            if group:
                self._answer(group)
            if self._file is not None and (not group or self._file.size > self._large):
                self._next()

    def _answer(self, group: list[Change]) -> None:
        """Make a group of changes, and tell those who wait; whatever happens, nobody waits on."""
        try:
            self._take(group)
        except Exception as error:
            for change in group:
                change.error = change.error or error
            if not isinstance(error, OSError):
                _log.error("the log of %s failed: %s", self._storage, told(error))
        for loop in {change.loop for change in group}:
            ended = [change for change in group if change.loop is loop]
            with contextlib.suppress(RuntimeError):  # the loop is closed; nobody waits
                loop.call_soon_threadsafe(_tell, ended)

    def _take(self, group: list[Change]) -> None:
        """Make a group of changes: those first of which making tells what to record."""
        late = [change for change in group if change.decided_late]
        rest = [change for change in group if not change.decided_late]
        if late:
            # A manifest may go because its tag is gone, and the log still tells of the tag.
            self._record([])
        for change in late:
            _make(change)
        made = [change for change in late if change.result]
        try:
            full = self._record(made + rest)
        except Exception:
            self._owe(made + rest)
            raise
        for change in rest:
            _make(change)
        failed = [change for change in rest if change.error]
        if failed:
            self._owe(failed)
        if full:
            self._sync(made + rest)

    def _owe(self, changes: list[Change]) -> None:
        """Remember what was made and not recorded, or recorded and not made.

        The next record says how it is; else a start would do, after what follows, what never was.
        A record that the disk refused may be on it all the same.
        """
        if self._durable:
            self._owed.update(change.path for change in changes)

    def _sync(self, changes: list[Change]) -> None:
        """Sync everything after changes of which there is no record."""
        try:
            sync_everything(self._folder)
        except OSError as error:
            self._owe(changes)
            self._distrust(error)
            raise

    def _record(self, changes: list[Change]) -> bool:
        """Record what is owed, then changes; tell whether there is no room to, and no log now.

        Removals go on then.
        """
        told = [standing(path) for path in sorted(self._owed)]
        told += [(change.kind, change.path, change.content) for change in changes]
        if not self._durable or not told:
            return False
        prefix = len(str(self._storage)) + 1
        records = [
            record(kind, os.fsencode(path[prefix:]), content) for kind, path, content in told
        ]
        try:
            if self._file is None:
                self._number += 1
                self._file = LogFile(self._folder / str(self._number))
            self._file.append(b"".join(records))
            self._owed.clear()
        except SyncFailed as error:
            self._distrust(error)
            self._abandon()
            raise
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._trusted:
                raise
            self._end()
            self._owed.clear()
            return True
        return False

    def _next(self) -> None:
        """Let the next log begin, and forget this one when everything it tells of is on disk."""
        if self._file is None or (self._syncing is not None and self._syncing.is_alive()):
            return
        self._file.close()
        self._file = None
        number = self._number
        try:
            self._syncing = _begin("settle", lambda: self._forget(number))
        except OSError:  # then the changes that come wait for it
            self._forget(number)

    def _end(self) -> None:
        """Sync everything now, and have no log."""
        if self._syncing is not None:
            self._syncing.join()
        if self._file is not None:
            self._file.close()
            self._file = None
        self._settle(self._number)

    def _forget(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self._settle(number)

    def _settle(self, number: int) -> None:
        """Sync everything and remove the logs, unless something may be on disk by them alone."""
        if not self._trusted:
            return
        try:
            settle(self._folder, number)
        except OSError as error:
            self._distrust(error)
            raise

    def _distrust(self, error: OSError) -> None:
        """Keep all logs from now on."""
        if self._trusted:
            _log.error(
                "%s cannot be synced: %s; its log is kept, and done again at the next start",
                self._storage,
                error,
            )
        self._trusted = False

    def _abandon(self) -> None:
        """Write no more to a log that the disk did not take."""
        if self._file is not None:
            self._file.abandon()
            self._file = None


def _begin(name: str, run: Callable[[], None]) -> threading.Thread:
    """Start a thread; ``OSError`` where none can be made now."""
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        raise OSError(errno.EAGAIN, "no thread can be made") from None
    return thread


def _make(change: Change) -> None:
    try:
        change.result = change.make()
    except Exception as error:  # who waits for the change gets it
        change.error = error


def _tell(changes: list[Change]) -> None:
    """Give those who wait their results; some may have left."""
    for change in changes:
        if change.waiting.done():
            continue
        if change.error is not None:
            change.waiting.set_exception(change.error)
        else:
            change.waiting.set_result(change.result)
