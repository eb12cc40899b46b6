# SPDX-License-Identifier: Apache-2.0
"""Files that commands are told to write."""

import os
from pathlib import Path

import pytest
from buildset_registry.errors import ConfigError
from buildset_registry.files import write_output


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """Who has it open reads on in the one before."""
    path = tmp_path / "report.html"
    write_output(path, "before")
    with path.open() as before:
        write_output(path, "after")
        assert before.read() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_disk_before_it_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut may leave an empty one in place of the one before."""
    path = tmp_path / "config.yaml"
    write_output(path, "before")
    synced: list[tuple[bytes, str]] = []

    def sync(descriptor: int) -> None:
        synced.append((os.pread(descriptor, 100, 0), path.read_text()))

    monkeypatch.setattr(os, "fsync", sync)
    write_output(path, "after")
    assert synced == [(b"after", "before")]
    assert path.read_text() == "after"


def test_a_pipe_stays_one_and_gets_the_content(tmp_path: Path) -> None:
    """As a device does: ``/dev/null`` would be an ordinary file to all programs from then on."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_output(path, "content")
    assert os.read(reader, 100) == b"content"
    os.close(reader)
    assert path.is_fifo()


def test_a_link_stays_one(tmp_path: Path) -> None:
    """``/dev/stdout`` is a link to what a command's output goes to, a file for one."""
    path, target = tmp_path / "link", tmp_path / "target"
    target.write_text("something longer")
    path.symlink_to(target)
    write_output(path, "content")
    assert path.is_symlink()
    assert target.read_text() == "content"


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A folder, and a link to where no folder is."""
    path = tmp_path / "link"
    path.symlink_to(tmp_path / "none/file")
    for wrong in (tmp_path, path):
        with pytest.raises(ConfigError, match=r"cannot write .*; "):
            write_output(wrong, "content")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """No room and no rights are missing then."""
    with pytest.raises(ConfigError, match=r"cannot write .*; make its folder first"):
        write_output(tmp_path / "none/report.html", "content")
