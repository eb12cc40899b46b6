# SPDX-License-Identifier: Apache-2.0
"""What is written at once and whole, and what is only written to."""

import os
import stat
import threading
from pathlib import Path

import pytest
from buildset_registry.errors import ConfigError
from buildset_registry.files import write_file


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_stays_one_and_is_written_to(tmp_path: Path, *, linked: bool) -> None:
    """As ``/dev/null`` and ``/dev/stdout`` do: root could put a file in their place."""
    pipe, got = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    if linked:
        (tmp_path / "link").symlink_to(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_file(tmp_path / ("link" if linked else "pipe"), "a report")
    reader.join(10)
    assert got == [b"a report"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link", "pipe"][not linked :]


def test_a_file_is_replaced_and_its_mode_set(tmp_path: Path) -> None:
    """Nobody sees half of it, and nobody reads what was for fewer."""
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as before:
        write_file(path, "new", 0o600)
        assert before.read() == "old"
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)


def test_a_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    """And nothing of the try is left."""
    with pytest.raises(ConfigError, match=f"cannot write {tmp_path / 'folder'}: Is a directory"):
        write_file(_made(tmp_path / "folder"), "text")
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
