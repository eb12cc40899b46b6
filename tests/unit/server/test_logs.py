# SPDX-License-Identifier: Apache-2.0
"""Messages of the log: their form, and where they go."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from buildset_registry.errors import ConfigError
from buildset_registry.server.logs import configure, open_output


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
