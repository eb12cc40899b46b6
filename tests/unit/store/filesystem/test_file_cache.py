# SPDX-License-Identifier: Apache-2.0
"""What is remembered of files is what they hold."""

from __future__ import annotations

from buildset_registry.store.filesystem.caches import FileCache


def test_a_file_is_read_once_until_it_changes() -> None:
    """One that is not there, too; a folder that goes takes all with it."""
    cache, files, asked = FileCache(), {"a": 1}, []

    def read(name: str) -> int | None:
        asked.append(name)
        return files.get(name)

    assert [cache.get(name, read) for name in "aabb"] == [1, 1, None, None]
    assert asked == ["a", "b"]
    files["b"] = 2
    cache.changed("b")
    assert [cache.get(name, read) for name in "aabb"] == [1, 1, 2, 2]
    files.clear()
    cache.removed()
    assert [cache.get(name, read) for name in "ab"] == [None, None]


def test_what_was_read_before_a_change_is_not_kept() -> None:
    """The change came between the reading and the keeping."""
    cache = FileCache()

    def read(name: str) -> str:
        cache.changed(name)
        return "old"

    assert cache.get("a", read) == "old"
    assert cache.get("a", lambda name: "new") == "new"


def test_what_is_remembered_has_a_bound() -> None:
    """All are forgotten, and read again."""
    cache = FileCache(2)
    for name in "abc":
        cache.get(name, str.upper)
    assert [cache.get(name, str.lower) for name in "ca"] == ["C", "a"]
