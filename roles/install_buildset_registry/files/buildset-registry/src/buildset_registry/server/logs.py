# SPDX-License-Identifier: Apache-2.0
"""The log: the file of messages and requests, and the form of its messages.

As text: ``2027-01-31 12:00:00,123 INFO buildset_registry.gc: removed 3 uploads, ...``. As JSON: the
same by name, in UTC, and the traceback of an error. The form of requests is in ``http/accesslog``.
"""

from __future__ import annotations

import io
import json
import logging
import os
import select
import sys
import time
from pathlib import Path
from typing import Any, Literal, TextIO

from buildset_registry.errors import ConfigError
from buildset_registry.http.accesslog import one_line
from buildset_registry.server.append import append_to

#: Bytes of a batch of lines that processes write beside each other; a longer one waits in parts.
_BATCH = 1024 * 1024


def open_output(file: Path | None, *, shared: bool = False) -> TextIO:
    """Open the file of the log, or standard error where there is none.

    ``shared`` keeps the lines whole beside those of other processes.
    """
    descriptor = os.dup(sys.stderr.fileno()) if file is None else _open(file)
    if shared:
        return io.TextIOWrapper(io.BufferedWriter(_WholeLines(descriptor), _BATCH), "utf-8")
    return os.fdopen(descriptor, "a", encoding="utf-8")


def _open(file: Path) -> int:
    try:
        return append_to(file)
    except OSError as error:
        raise ConfigError(
            f"cannot write the log {file}: {error.strerror}; "
            "set log.file to one that this user may write"
        ) from None


class _WholeLines(io.RawIOBase):
    """Writes no more at once than no other process writes into (pipe(7)), and ends with a line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        """Tell that it is written to."""
        return True

    def write(self, content: Any) -> int:
        """Write the first lines; returns how much of the content they are."""
        some = bytes(content)
        end = some.rfind(b"\n", 0, select.PIPE_BUF) + 1 or some.find(b"\n") + 1 or len(some)
        return os.write(self._descriptor, some[:end])

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            super().close()
            os.close(self._descriptor)


def configure(output: TextIO, form: Literal["text", "json"]) -> None:
    """Send the package's messages where the access log goes; other loggers stay as they are.

    Again after Granian is made, which configures logging itself.
    """
    handler = _Handler(output)
    text = TextLines("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if form == "json" else text)
    logger = logging.getLogger("buildset_registry")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _Handler(logging.StreamHandler[TextIO]):
    """Messages as lines; one for which the disk has no room is lost, and nothing else is."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Leave out the traceback that logging prints of itself."""


class TextLines(logging.Formatter):
    """One line a record, its traceback included: what others wrote cannot look like a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a message."""
        return one_line(super().format(record))


class JsonLines(logging.Formatter):
    """One JSON object a line, a traceback inside."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a message."""
        tree = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            tree["traceback"] = self.formatException(record.exc_info)
        return json.dumps(tree, separators=(",", ":"))
