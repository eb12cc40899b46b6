# SPDX-License-Identifier: Apache-2.0
"""Files of a ledger: whatever happened to them, what is whole in them is read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from buildset_registry.ledger.files import LedgerFiles, read_ledger
from buildset_registry.ledger.rows import LONGEST, clipped, from_line, stamp, to_line

#: What clients may call themselves.
NASTY = (
    "<script>alert(1)</script>",
    "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe",
    "a\nb\r\x1b[31m\x00",
    "\udcff",
    "x" * 4096,
)


def line(number: int, **values: object) -> bytes:
    """Return the line of a row."""
    row = {"kind": "pull", "id": f"boot-{number}", "time": stamp(number)}
    return to_line(row | values)


def ids(folder: Path) -> list[str]:
    """Return the identifiers of the rows that are read."""
    return [row["id"] for row in read_ledger(folder).rows]


def test_a_row_that_is_written_again_is_one_row(tmp_path: Path) -> None:
    """The last one counts, at the place of the first."""
    files = LedgerFiles(tmp_path / "ledger", 10_000)
    files.append(line(1, requests=1) + line(2))
    files.append(line(1, requests=2))
    rows = read_ledger(tmp_path / "ledger").rows
    assert [(row["id"], row.get("requests")) for row in rows] == [("boot-1", 2), ("boot-2", None)]


@pytest.mark.parametrize("left", range(1, 12))
def test_what_follows_a_line_that_was_cut_off_is_whole(tmp_path: Path, left: int) -> None:
    """At any byte; the line itself is counted as broken."""
    LedgerFiles(tmp_path, 10_000).append(line(1) + line(2))
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - left)
    LedgerFiles(tmp_path, 10_000).append(line(3))
    content = read_ledger(tmp_path)
    kept = ["boot-1", "boot-2", "boot-3"] if left == 1 else ["boot-1", "boot-3"]
    assert [row["id"] for row in content.rows] == kept
    assert content.broken == (0 if left == 1 else 1)


def test_the_oldest_file_goes_when_there_is_no_room(tmp_path: Path) -> None:
    """So many bytes in so many files; the newest rows stay."""
    files = LedgerFiles(tmp_path, 4000, number=4)
    for number in range(200):
        files.append(line(number))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4000 + len(line(1000))
    assert len([*tmp_path.iterdir()]) == 4
    assert ids(tmp_path)[-1] == "boot-199"


def test_a_write_that_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk takes a part and is full: what was there stays, and nothing is there twice."""
    files = LedgerFiles(tmp_path, 10_000)
    files.append(line(1))
    write, room = os.write, [7]

    def some(descriptor: int, content: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, bytes(content)[: room.pop()])

    monkeypatch.setattr(os, "write", some)
    with pytest.raises(OSError, match="No space"):
        files.append(line(2))
    monkeypatch.undo()
    assert ids(tmp_path) == ["boot-1"]
    files.append(line(2) + line(3))
    assert ids(tmp_path) == ["boot-1", "boot-2", "boot-3"]
    assert read_ledger(tmp_path).broken == 0


@pytest.mark.parametrize("text", NASTY, ids=["html", "bidi", "control", "half", "long"])
def test_what_a_client_calls_itself_stays_on_its_line(tmp_path: Path, text: str) -> None:
    """A line is ASCII, and no longer than a row has room for."""
    written = line(1, agent=clipped(text))
    assert written.isascii() and written.count(b"\n") == 1
    LedgerFiles(tmp_path, 10_000).append(written)
    (row,) = read_ledger(tmp_path).rows
    assert row["agent"] == clipped(text) and len(row["agent"]) <= LONGEST + 1


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"[]",
        b'{"kind": "pull"}',
        b'{"kind": "pull", "id": 1, "time": "x"}',
        b'{"kind": "other", "id": "a", "time": "x"}',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"kind":"pull","id":"a","time":"' + b"x" * 300_000 + b'"}',
    ],
    ids=["empty", "list", "bare", "types", "kind", "deep", "bytes", "long"],
)
def test_a_line_that_is_no_row_is_none(damaged: bytes) -> None:
    """Whoever may have written it."""
    assert from_line(damaged) is None


@pytest.mark.parametrize("seconds", [0, -1e18, 1e18, float("inf"), float("nan")])
def test_any_clock_makes_a_time(seconds: float) -> None:
    """A clock may jump anywhere."""
    assert stamp(seconds).endswith("Z")


def test_no_link_is_followed_out_of_the_folder(tmp_path: Path) -> None:
    """A file of the ledger that is a link is not written to."""
    (tmp_path / "victim").write_text("")
    folder = tmp_path / "ledger"
    folder.mkdir()
    (folder / "ledger-000001.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=r"symbolic|loop"):
        LedgerFiles(folder, 1000).append(line(1))
    assert (tmp_path / "victim").read_text() == ""
