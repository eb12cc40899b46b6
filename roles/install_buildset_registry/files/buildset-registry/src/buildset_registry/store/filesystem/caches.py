# SPDX-License-Identifier: Apache-2.0
"""What was read of small files a short while ago: what is asked again costs no system call.

This process alone changes the storage, and tells of each change after it made it (``disk.py``). A
value that was read meanwhile is given to who asked, and not kept.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from buildset_registry.oci.digest import Digest

Value = TypeVar("Value")

#: Files; past this many, all are forgotten. Some 400 bytes each.
_MOST = 8192


class FileCache:
    """Values by the names of the files that they were read from; for any thread."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
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
                if len(self._values) >= self._most:
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


#: Bytes in all, and of one manifest that is worth keeping.
_MOST = 8 * 1024 * 1024
_LARGEST = 256 * 1024


class RecentManifests:
    """A bounded memory; what was used last is kept."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._held: OrderedDict[Digest, bytes] = OrderedDict()
        self._size = 0

    def get(self, digest: Digest) -> bytes | None:
        """Return the content, if it is remembered."""
        found = self._held.get(digest)
        if found is not None:
            self._held.move_to_end(digest)
        return found

    def add(self, digest: Digest, content: bytes) -> None:
        """Remember content, unless it is large, or damaged: a push may mend it on the disk."""
        if len(content) > _LARGEST or digest in self._held:
            return
        if Digest.of(content, digest.algorithm) != digest:
            return
        self._held[digest] = content
        self._size += len(content)
        while self._size > self._most:
            self._size -= len(self._held.popitem(last=False)[1])

    def forget(self, digest: Digest) -> None:
        """Forget content that was removed."""
        dropped = self._held.pop(digest, None)
        if dropped is not None:
            self._size -= len(dropped)


Name = TypeVar("Name", bound=str)

#: Names in memory, at some 120 bytes each; the list used last is kept whatever its length.
_KEPT_NAMES = 100_000
#: What a list costs in itself, as names: an empty one takes room, too.
_LIST_COST = 10


class NameLists(Generic[Name]):
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
