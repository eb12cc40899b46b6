# SPDX-License-Identifier: Apache-2.0
"""Lists in memory say what is in the folder, whatever happens to it meanwhile."""

import threading
from pathlib import Path

from buildset_registry.store.filesystem.caches import ListCache

FOLDER = Path("folder")


class Folder:
    """Names that threads add and remove, each change told to the lists."""

    def __init__(self, lists: ListCache[str]) -> None:
        self.names: set[str] = set()
        self.scans = 0
        self._lists = lists

    def scan(self) -> list[str]:
        self.scans += 1
        return list(self.names)

    def add(self, name: str) -> None:
        self.names.add(name)
        self._lists.changed(FOLDER, name, lambda: name in self.names)

    def remove(self, name: str) -> None:
        self.names.discard(name)
        self._lists.changed(FOLDER, name, lambda: name in self.names)


def test_a_list_is_read_once_and_follows_changes() -> None:
    """It stays sorted, and what was handed out before stays as it was."""
    lists = ListCache[str]()
    folder = Folder(lists)
    folder.add("b")
    assert lists.get(FOLDER) is None
    before = lists.read(FOLDER, folder.scan)
    for name in ("c", "a", "b"):
        folder.add(name)
    folder.remove("c")
    folder.remove("never there")
    assert (before, lists.get(FOLDER), folder.scans) == (["b"], ["a", "b"], 1)


def test_a_change_during_the_scan_is_not_lost() -> None:
    """What the scan did not see, or saw and is gone, is put right at its end."""
    lists = ListCache[str]()
    folder = Folder(lists)
    folder.add("gone")

    def scan() -> list[str]:
        found = folder.scan()
        folder.add("new")
        folder.remove("gone")
        return found

    assert lists.read(FOLDER, scan) == ["new"]
    assert lists.get(FOLDER) == ["new"]


def test_a_scan_that_fails_leaves_nothing() -> None:
    """The next one begins anew."""
    lists = ListCache[str]()
    folder = Folder(lists)

    def scan() -> list[str]:
        raise PermissionError

    try:
        lists.read(FOLDER, scan)
    except PermissionError:
        folder.add("a")
    assert lists.get(FOLDER) is None
    assert lists.read(FOLDER, folder.scan) == ["a"]


def test_threads_that_change_and_read_at_once() -> None:
    """At the end the list is the folder, read or followed."""
    lists = ListCache[str]()
    folder = Folder(lists)

    def work(seed: int) -> None:
        for number in range(seed, seed + 300):
            change = folder.remove if number % 3 == 0 else folder.add
            change(str(number * 13 % 20))
            if number % 10 == 0:
                lists.read(FOLDER, folder.scan)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lists.get(FOLDER) == sorted(folder.names)


def test_the_lists_in_memory_have_a_bound() -> None:
    """Of many lists the ones used last are kept; one that is too large stays while it is used."""
    lists = ListCache[str](limit=100)
    for number in range(10):
        lists.read(Path(str(number)), lambda: map(str, range(15)))
    kept = [number for number in range(10) if lists.get(Path(str(number))) is not None]
    assert kept == [6, 7, 8, 9]
    lists.read(FOLDER, lambda: map(str, range(1000)))
    assert len(lists.get(FOLDER) or ()) == 1000
