# SPDX-License-Identifier: Apache-2.0
"""The files of a ledger: lines are appended, a file that is full is followed by another one.

::

    <folder>/
    ├── ledger-000001.jsonl     the oldest that is still there
    └── ledger-000002.jsonl     the one that is written to

Nothing is renamed or written over, so that whoever reads beside the server misses nothing. A line
that was cut off, by a full disk or the end of the machine, stays as it is: the next one begins on a
line of its own.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from buildset_registry.ledger.content import LedgerContent, RowReader
from buildset_registry.ledger.rows import LONGEST_LINE

#: Bytes that are written at once.
_BATCH = 32 * 1024
_NAME = re.compile(r"ledger-(\d{6,})\.jsonl")


class LedgerFiles:
    """The folder of a ledger, to append to; not for two threads at once."""

    def __init__(self, folder: Path, most: int, number: int = 8) -> None:
        self._folder = folder
        self._file_size = max(1, most // number)
        self._number = number
        self._torn = True

    async def write(self, waiting: dict[str, bytes]) -> None:
        """Append lines; a disk that is nearly full takes some of them."""
        while waiting:
            batch = _batch(waiting)
            await asyncio.to_thread(self.append, b"".join(waiting[one] for one in batch))
            for one in batch:
                del waiting[one]

    def append(self, lines: bytes) -> None:
        """Write whole lines, or none of them: ``OSError``, and what was written of them goes."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._current()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            if self._torn and not _ends_with_a_line(path):
                lines = b"\n" + lines
            self._torn = True
            _write(descriptor, lines)
            self._torn = False
        finally:
            os.close(descriptor)

    def _current(self) -> Path:
        """Return the file that is written to; begin another and remove the oldest, if it is full.

        Asked for each time: somebody may have cleared the folder.
        """
        numbers = _numbers(self._folder)
        last = numbers[-1] if numbers else 1
        path = _path(self._folder, last)
        try:
            full = path.stat().st_size >= self._file_size
        except FileNotFoundError:
            full = False
        if not full:
            return path
        for old in numbers[: max(0, len(numbers) + 1 - self._number)]:
            _path(self._folder, old).unlink(missing_ok=True)
        return _path(self._folder, last + 1)


def read_ledger(folder: Path) -> LedgerContent:
    """Read all files of a ledger; what is broken in them is counted, and stops nothing."""
    reader, problems = RowReader(), list[str]()
    for number in _numbers(folder):
        try:
            for line in _lines(_path(folder, number)):
                reader.add(line)
        except FileNotFoundError:  # the oldest, which has just been removed
            continue
        except OSError as error:
            problems.append(f"{_path(folder, number)}: {error.strerror}")
    return reader.content(problems)


def _batch(lines: Mapping[str, bytes]) -> list[str]:
    """Return the rows whose lines are written at once."""
    found, size = list[str](), 0
    for one, line in lines.items():
        size += len(line)
        if found and size > _BATCH:
            break
        found.append(one)
    return found


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, none of them longer than twice what a line may be."""
    with path.open("rb") as file:
        while line := file.readline(2 * LONGEST_LINE):
            if line.strip(b"\n\0"):
                yield line


def _numbers(folder: Path) -> list[int]:
    """Return the numbers of the files that are there, sorted."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))


def _path(folder: Path, number: int) -> Path:
    return folder / f"ledger-{number:06d}.jsonl"


def _write(descriptor: int, lines: bytes) -> None:
    """Write all of it, or leave the file as it was: a disk may take a part and be full."""
    before = os.fstat(descriptor).st_size
    view = memoryview(lines)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, before)
        raise


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return True
        file.seek(size - 1)
        return file.read(1) == b"\n"
