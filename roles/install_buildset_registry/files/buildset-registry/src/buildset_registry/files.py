# SPDX-License-Identifier: Apache-2.0
"""Files that are replaced at once and whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from buildset_registry.errors import ConfigError


def write_file(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """Create or replace a file at once and whole, never readable by more than ``mode`` says.

    A device or a pipe stays what it is, and is written to: ``/dev/null`` is everybody's.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)
            return
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), mode)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}; make room, or run this as another user"
        ) from None
