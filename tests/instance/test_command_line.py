# SPDX-License-Identifier: Apache-2.0
"""What a command line cannot do is one line, wherever it is run and whoever reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from buildset_registry.cli import COMMANDS, main, make_parser
from buildset_registry.cli.copy import journal

from tests.ports import free_port

PROGRAM = [sys.executable, "-m", "buildset_registry"]


def shell(line: str, **environment: str) -> CompletedProcess[str]:
    """Run a line of a shell, in which ``$BR`` is the command, with output in blocks."""
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    env = {**kept, "BR": " ".join(PROGRAM), **environment}
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env=env, timeout=60
    )  # fmt: skip


def one_line(text: str) -> bool:
    """Tell whether something was said in one line that is no trace."""
    return text.startswith("buildset-registry: ") and text.count("\n") == 1


def declared(*words: str) -> dict[str, ArgumentParser]:
    """Return the parsers of the commands that are loaded."""
    (choices,) = [action.choices for action in make_parser(words)._actions if action.choices]
    assert isinstance(choices, dict)
    return choices


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_loaded_alone_is_declared_as_among_all(name: str) -> None:
    """Its help is the same whether the others are loaded or not."""
    alone, all_of_them = declared(name), declared()
    assert list(alone) == [name]
    assert list(all_of_them) == list(COMMANDS)
    assert alone[name].format_help() == all_of_them[name].format_help()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "status --colour",
            "unrecognized arguments: --colour; see buildset-registry status --help",
        ),
        ("gc now", "unrecognized arguments: now; see buildset-registry gc --help"),
        ("--root /x status", "--root: the command comes first"),
        ("--json", "--json: the command comes first"),
        ("stat", "invalid choice: 'stat'"),
        ("-- status", "invalid choice: '--'"),
        ("", "the following arguments are required: COMMAND"),
        ("status --root ~nobody-of-that-name/x", "there is no such home; write the path in full"),
    ],
)
def test_words_that_are_wrong_are_told_where_help_is(
    capsys: pytest.CaptureFixture[str], words: str, told: str
) -> None:
    """The line is about the word that is wrong."""
    try:
        code = main(words.split())
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr().err
    assert code == 2
    assert one_line(said)
    assert told in said


def test_options_without_a_command_and_their_beginnings_are_understood(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What stands behind them is not looked at."""
    for words in (["--version", "copy"], ["--vers"], ["--help", "status"], ["-h"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
        assert "buildset-registry" in capsys.readouterr().out


def test_output_that_cannot_be_written_is_told() -> None:
    """As by a file on a full disk; a reader who has gone needs no message."""
    full = shell("$BR status --root /nowhere > /dev/full")
    assert full.returncode == 1
    assert full.stderr == (
        "buildset-registry: cannot write the output: No space left on device; make room\n"
    )
    gone = shell("{ sleep 0.3; $BR status --root /nowhere; echo $? >&2; } | true")
    assert gone.stderr == "1\n"


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_changes_no_exit_code(closed: str) -> None:
    """Nothing is said of it: there may be nobody to hear."""
    done = shell(f"$BR status --root /nowhere {closed}")
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.parametrize("words", ["status", "up", "report"])
def test_a_file_in_place_of_a_folder_is_told(tmp_path: Path, words: str) -> None:
    """Whatever looks for a registry in it."""
    (tmp_path / "file").touch()
    done = shell(f"$BR {words} --root {tmp_path}/file")
    assert done.returncode == 3 or one_line(done.stderr)
    assert "Traceback" not in done.stderr


def test_an_upstream_that_is_not_there_is_told_once(tmp_path: Path) -> None:
    """By the line on its image, and not by what was tried besides."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    tree = {
        "endpoints": {"pull": {"port": free_port()}},
        "storage": "data",
        "upstreams": [{"name": "example.org", "url": nowhere}],
    }
    image = {"digest": f"sha256:{'a' * 64}", "media_type": "x/y", "platforms": []}
    more = {"source": "example.org", "first_seen": "2026-11-30"}
    lock = {"version": 1, "images": {"example.org/app:1": image | more}}
    (tmp_path / "config.yaml").write_text(json.dumps(tree))
    (tmp_path / "lock.json").write_text(json.dumps(lock))
    done = shell(f"cd {tmp_path}; $BR lock --config config.yaml --output lock.json --update")
    assert (done.returncode, done.stderr) == (1, "")
    assert "example.org/app:1: unchanged" in done.stdout


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration that was never served."""
    (tmp_path / "data").mkdir()
    file = tmp_path / "config.yaml"
    tree = {"endpoints": {"pull": {"port": free_port()}}, "storage": "data"}
    file.write_text(json.dumps(tree | {"ledger": {"folder": "ledger"}}))
    return file


def test_a_device_or_a_pipe_is_written_to_and_not_replaced(config: Path) -> None:
    """``/dev/null`` would be a file for everybody otherwise; a link leads to what is replaced."""
    folder = config.parent
    pipe, kept, link = folder / "pipe", folder / "kept.json", folder / "link.json"
    os.mkfifo(pipe)
    kept.touch()
    link.symlink_to(kept)
    for words in ("lock --output", "report --html"):
        done = shell(f"timeout 50 cat {pipe} & $BR {words} {pipe} --config {config} >&2; wait")
        assert done.returncode == 0
        assert done.stdout.startswith(("{", "<!DOCTYPE html>"))
        assert pipe.is_fifo()
    assert shell(f"$BR lock --output {link} --config {config}").returncode == 0
    assert link.is_symlink()
    assert json.loads(kept.read_text()) == {"images": {}, "version": 1}


def test_a_user_without_a_home_is_told_what_to_set(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs as a number; what a copy remembers needs no home."""
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert main(["status"]) == 2
    said = capsys.readouterr().err
    assert one_line(said)
    assert "set HOME" in said
    assert journal() is None


def test_a_file_that_memory_has_no_room_for_is_told(tmp_path: Path) -> None:
    """It is no configuration."""
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(8 << 30)
    done = shell(f"ulimit -v 1000000; $BR status --config {huge}")
    assert done.returncode == 1
    assert one_line(done.stderr)
    assert "not enough memory" in done.stderr
