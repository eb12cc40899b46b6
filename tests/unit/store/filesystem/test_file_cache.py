# SPDX-License-Identifier: Apache-2.0
"""What is remembered of files is what they hold."""

from __future__ import annotations

from buildset_registry.store.filesystem.caches import FileCache


def test_a_file_is_read_once_until_it_changes() -> None:
    """One that is not there, too; a folder that goes takes all with it."""
    known, files, asked = FileCache(), {"a": 1}, []

    def read(name: str) -> int | None:
        asked.append(name)
        return files.get(name)

    assert [known.get(name, read) for name in "aabb"] == [1, 1, None, None]
    assert asked == ["a", "b"]
    files["b"] = 2
    known.changed("b")
    assert [known.get(name, read) for name in "aabb"] == [1, 1, 2, 2]
    files.clear()
    known.removed()
    assert [known.get(name, read) for name in "ab"] == [None, None]


def test_what_was_read_before_a_change_is_not_kept() -> None:
    """The change came between the reading and the keeping."""
    known = FileCache()

    def read(name: str) -> str:
        known.changed(name)
        return "old"

    assert known.get("a", read) == "old"
    assert known.get("a", lambda name: "new") == "new"


def test_what_is_remembered_has_a_bound() -> None:
    """All are forgotten, and read again."""
    known = FileCache(2)
    for name in "abc":
        known.get(name, str.upper)
    assert [known.get(name, str.lower) for name in "ca"] == ["C", "a"]
