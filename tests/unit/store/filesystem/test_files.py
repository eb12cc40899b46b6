# SPDX-License-Identifier: Apache-2.0
"""A writer brings much to the disk while it is written, and tells when the disk fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from buildset_registry.store.filesystem.files import Writer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file in which something is."""
    path = tmp_path / "data"
    path.write_bytes(b"old")
    return path


def content(path: Path) -> bytes:
    return path.read_bytes()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_everything_is_written_from_the_offset_on(file: Path) -> None:
    """Pieces follow each other, whether or not the disk is at work."""
    writer = Writer(file, 3, ahead=10)
    for number in range(100):
        writer.write(b"piece %d;" % number)
    await writer.close()
    assert content(file) == b"old" + b"".join(b"piece %d;" % number for number in range(100))


async def test_a_failing_disk_is_told_at_the_end(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the disk did not take is not acknowledged; the file is closed all the same."""

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    before = open_files()
    writer = Writer(file, 0, ahead=10)
    writer.write(b"more than ten bytes")
    with pytest.raises(OSError, match="Input/output"):
        await writer.close()
    assert open_files() == before
