# SPDX-License-Identifier: Apache-2.0
"""Caches of what was read: small files, and lists of names; each has a bound.

This process alone changes the storage, and tells of each change after it made it (``disk.py``,
``store.py``), so what is asked again costs no system call.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")
Name = TypeVar("Name", bound=str)

#: Files; past this many, all are forgotten. Some 400 bytes each.
_CACHED_FILES = 8192
#: Names in lists, at some 120 bytes each; the list used last is kept whatever its length.
_CACHED_NAMES = 100_000
#: What a list costs in itself, as names: an empty one takes room, too.
_LIST_COST = 10


class FileCache:
    """Values by the names of the files that they were read from; for any thread.

    A value that was read while something changed is given to who asked, and not kept.
    """

    def __init__(self, limit: int = _CACHED_FILES) -> None:
        self._limit = limit
        self._values: dict[str, object] = {}
        self._changes = 0
        self._lock = Lock()

    def get(self, name: str, read: Callable[[str], Value]) -> Value:
        """Return what ``read`` gives for a file; one file is always read by the same."""
        try:
            return self._values[name]  # type: ignore[return-value]  # what ``read`` gave
        except KeyError:
            changes = self._changes
        value = read(name)
        with self._lock:
            if changes == self._changes:
                if len(self._values) >= self._limit:
                    self._values.clear()
                self._values[name] = value
        return value

    def changed(self, name: str) -> None:
        """Forget a file that was made, replaced or touched."""
        with self._lock:
            self._changes += 1
            self._values.pop(name, None)

    def removed(self) -> None:
        """Forget everything: a folder is gone, with whatever was in it."""
        with self._lock:
            self._changes += 1
            self._values.clear()


class ListCache(Generic[Name]):
    """Sorted lists of names by folder; for any thread.

    A list that is read while names change is put right at its end, for those that changed.
    """

    def __init__(self, limit: int = _CACHED_NAMES) -> None:
        self._limit = limit
        self._lock = Lock()
        self._lists: OrderedDict[Path, list[Name]] = OrderedDict()
        self._scans: dict[Path, dict[Name, Callable[[], bool]]] = {}

    def get(self, folder: Path) -> Sequence[Name] | None:
        """Return a list that is in memory; a later change makes another, and leaves this one."""
        with self._lock:
            names = self._lists.get(folder)
            if names is not None:
                self._lists.move_to_end(folder)
            return names

    def read(self, folder: Path, scan: Callable[[], Iterable[Name]]) -> Sequence[Name]:
        """Return the list of a folder, by ``scan`` where it is not in memory."""
        with self._lock:
            mine = folder not in self._scans
            changes = self._scans.setdefault(folder, {})
        try:
            names = sorted(scan())
            with self._lock:
                for name, present in changes.items():
                    names = _corrected(names, name, present())
                if mine:
                    self._keep(folder, names)
            return names
        finally:
            if mine:
                with self._lock:
                    del self._scans[folder]

    def changed(self, folder: Path, name: Name, present: Callable[[], bool]) -> None:
        """Look again whether a name is there; to be called after every change of it."""
        with self._lock:
            if folder in self._scans:
                self._scans[folder][name] = present
            names = self._lists.get(folder)
            if names is not None:
                self._lists[folder] = _corrected(names, name, present())

    def _keep(self, folder: Path, names: list[Name]) -> None:
        self._lists[folder] = names
        self._lists.move_to_end(folder)
        total = sum(len(names) + _LIST_COST for names in self._lists.values())
        while total > self._limit and len(self._lists) > 1:
            total -= len(self._lists.popitem(last=False)[1]) + _LIST_COST


def _corrected(names: list[Name], name: Name, present: bool) -> list[Name]:
    """Return the list with or without the name; the same one where that changes nothing."""
    at = bisect_left(names, name)
    listed = at < len(names) and names[at] == name
    if listed == present:
        return names
    return [*names[:at], name, *names[at:]] if present else [*names[:at], *names[at + 1 :]]
