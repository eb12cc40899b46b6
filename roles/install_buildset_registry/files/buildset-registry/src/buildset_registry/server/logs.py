# SPDX-License-Identifier: Apache-2.0
"""Where messages go, and how they are written."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import TextIO

from buildset_registry.config import LogSettings
from buildset_registry.errors import ConfigError


def open_output(log: LogSettings) -> TextIO:
    """Open the file of the log, or standard error."""
    if log.file is None:
        return os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8")
    try:
        log.file.parent.mkdir(parents=True, exist_ok=True)
        return log.file.open("a", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot write the log {log.file}: {error.strerror}; set log.file"
        ) from None


def configure(output: TextIO, log: LogSettings) -> None:
    """Send messages where the access log goes; after Granian, which configures logging itself."""
    handler = logging.StreamHandler(output)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(_JsonLines() if log.format == "json" else text)
    logger = logging.getLogger("buildset_registry")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _JsonLines(logging.Formatter):
    """One JSON object a line, a traceback inside."""

    def format(self, record: logging.LogRecord) -> str:
        tree = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            tree["traceback"] = self.formatException(record.exc_info)
        return json.dumps(tree, separators=(",", ":"))
