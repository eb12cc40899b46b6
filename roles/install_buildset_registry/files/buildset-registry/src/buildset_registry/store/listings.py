# SPDX-License-Identifier: Apache-2.0
"""Sorted names of what is in folders, kept in memory: tags of a repository, repositories.

A list is read from its folder when it is first asked for, and follows each change from then on. It
is only ever a copy: lost at a restart or when others need the room, it is read again. This process
alone changes the folder (``disk.py`` holds its lock), so a copy cannot be wrong.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=str)

#: Names in memory, at some 120 bytes each; the list used last is kept whatever its length.
_KEPT_NAMES = 100_000
#: What a list costs in itself, as names: an empty one takes room, too.
_LIST_COST = 10


class Listings(Generic[Name]):
    """Lists by folder; for any thread."""

    def __init__(self, kept_names: int = _KEPT_NAMES) -> None:
        self._kept_names = kept_names
        self._lock = Lock()
        self._lists: OrderedDict[Path, list[Name]] = OrderedDict()
        self._scans: dict[Path, dict[Name, Callable[[], bool]]] = {}

    def known(self, folder: Path) -> Sequence[Name] | None:
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
        while total > self._kept_names and len(self._lists) > 1:
            total -= len(self._lists.popitem(last=False)[1]) + _LIST_COST


def _corrected(names: list[Name], name: Name, present: bool) -> list[Name]:
    """Return the list with or without the name; the same one where that changes nothing."""
    at = bisect_left(names, name)
    listed = at < len(names) and names[at] == name
    if listed == present:
        return names
    return [*names[:at], name, *names[at:]] if present else [*names[:at], *names[at + 1 :]]
