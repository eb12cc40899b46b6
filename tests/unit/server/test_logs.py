# SPDX-License-Identifier: Apache-2.0
"""Messages of the log: their form, and where they go."""

import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from buildset_registry.config import parse
from buildset_registry.errors import ConfigError
from buildset_registry.instance.watchdog import ENDED
from buildset_registry.server.logs import configure, open_output
from buildset_registry.server.serve import run


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """The package's logger, which is afterwards as before."""
    found = logging.getLogger("buildset_registry")
    before = (found.handlers[:], found.level, found.propagate)
    yield found
    found.handlers[:], found.level, found.propagate = before


def test_a_message_is_a_line_of_text(logger: logging.Logger) -> None:
    """With its level and its logger; what is finer than information is left out."""
    output = io.StringIO()
    configure(output, "text")
    logger.getChild("gc").info("removed %d uploads", 3)
    logger.debug("nothing to see")
    (line,) = output.getvalue().splitlines()
    assert line.endswith(" INFO buildset_registry.gc: removed 3 uploads")


def test_a_message_is_one_object_of_json_with_its_traceback(logger: logging.Logger) -> None:
    """Each line can be parsed alone."""
    output = io.StringIO()
    configure(output, "json")
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("it failed")
    (line,) = output.getvalue().splitlines()
    tree = json.loads(line)
    assert (tree["level"], tree["logger"], tree["message"]) == (
        "error",
        "buildset_registry",
        "it failed",
    )
    assert "ValueError: why" in tree["traceback"]
    assert tree["time"].endswith("Z")


def test_what_is_found_before_anybody_is_served_is_told(
    logger: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the log, and not on standard error alone; so is how the server before it ended."""
    monkeypatch.setenv(ENDED, "was killed by signal 9")
    (tmp_path / "htpasswd").write_text("old:$apr1$cZYgDqQm$1Nq3Z5n2yWbVJqUoQ8x0V1\n")
    receiver = {"name": "events", "url": "https://events.example.com", "ca": "none"}
    tree = {
        "endpoints": {"single": {"port": 5000}},
        "storage": "memory",
        "auth": {"htpasswd": "htpasswd"},
        "notifications": [receiver],
        "log": {"file": "registry.log"},
    }
    logger.handlers.clear()
    with pytest.raises(ConfigError, match="none of events cannot be used"):
        run(parse(tree, "config", tmp_path))
    before, found = (tmp_path / "registry.log").read_text().splitlines()
    assert before.endswith(
        " ERROR buildset_registry: the server before this one was killed by signal 9"
    )
    assert " WARNING buildset_registry.auth: " in found
    assert found.endswith("htpasswd, line 1: no bcrypt hash, so old cannot log in")


def test_the_file_of_the_log_is_appended_to(tmp_path: Path) -> None:
    """Its folder is made where it is missing."""
    file = tmp_path / "log" / "registry.log"
    for text in ("one\n", "two\n"):
        with open_output(file) as output:
            output.write(text)
    assert file.read_text() == "one\ntwo\n"


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """The file is named, and the setting."""
    (tmp_path / "log").touch()
    with pytest.raises(ConfigError, match=r"cannot write the log .*; set log\.file") as caught:
        open_output(tmp_path / "log" / "registry.log")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("control", ["\n", "\r\n", "\x1b[2K", "\x85", "\u2028"])
def test_a_message_of_text_is_one_line_whatever_it_quotes(
    logger: logging.Logger, control: str
) -> None:
    """An upstream's words, a manifest's, or those of an error: they cannot look like a record."""
    output = io.StringIO()
    configure(output, "text")
    logger.error("says %s", f"x{control}2026-01-01 00:00:00,000 ERROR forged")
    try:
        raise ValueError(f"x{control}2026-01-01 00:00:00,000 ERROR forged")
    except ValueError:
        logger.exception("failed")
    lines = output.getvalue().split("\n")
    assert len(lines) == 3
    assert lines[-1] == ""
    assert all(line.isprintable() for line in lines)
    assert "Traceback" in lines[1]


def link(file: Path, secret: Path) -> None:
    file.symlink_to(secret)


def other_name(file: Path, secret: Path) -> None:
    file.hardlink_to(secret)


def pipe(file: Path, _secret: Path) -> None:
    os.mkfifo(file)


@pytest.mark.parametrize("lay", [link, other_name, pipe])
def test_nothing_is_followed_in_a_folder_that_others_may_write(
    tmp_path: Path, lay: Callable[[Path, Path], None]
) -> None:
    """Root's log in a job user's folder must not lead to root's files; nor is a pipe waited for."""
    secret, folder = tmp_path / "secret", tmp_path / "logs"
    secret.write_text("before")
    folder.mkdir()
    folder.chmod(0o777)
    lay(folder / "registry.log", secret)
    with pytest.raises(ConfigError, match="others may write"):
        open_output(folder / "registry.log")
    assert secret.read_text() == "before"


def test_a_folder_on_the_way_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """Where others may have laid it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o777)
    (tmp_path / "target").mkdir()
    (tmp_path / "home/logs").symlink_to(tmp_path / "target")
    with pytest.raises(ConfigError):
        open_output(tmp_path / "home/logs/registry.log")
    assert not list((tmp_path / "target").iterdir())


def test_a_link_of_the_user_itself_is_followed(tmp_path: Path) -> None:
    """In a folder that nobody else may write; what is there already stays."""
    (tmp_path / "real.log").write_text("before\n")
    (tmp_path / "registry.log").symlink_to(tmp_path / "real.log")
    with open_output(tmp_path / "registry.log") as output:
        output.write("after\n")
    assert (tmp_path / "real.log").read_text() == "before\nafter\n"


def test_lines_of_several_processes_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """No write is larger than a pipe takes at once, and each ends with a line (pipe(7))."""
    reading, writing = os.pipe2(os.O_DIRECT)  # each read returns what one write wrote
    lines = [f"{number} {'x' * (number % 97)}\n" for number in range(200)]
    with os.fdopen(writing, "w") as error:
        monkeypatch.setattr(sys, "stderr", error)
        with open_output(None, shared=True) as output:
            output.write("".join(lines))
            output.flush()
    packets = list(iter(lambda: os.read(reading, 65536), b""))
    os.close(reading)
    assert b"".join(packets).decode() == "".join(lines)
    assert len(packets) > 1
    assert all(packet.endswith(b"\n") for packet in packets)
