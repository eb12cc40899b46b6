# SPDX-License-Identifier: Apache-2.0
"""Files that are replaced at once and whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from stat import S_ISREG

from buildset_registry.errors import ConfigError


def write_file(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """Create or replace a file at once and whole, never readable by more than ``mode`` says."""
    data = content.encode() if isinstance(content, str) else content
    try:
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


def write_output(path: Path, content: bytes | str) -> None:
    """Write what somebody asked to have in a file; a device, a pipe and a link stay what they are.

    ``/dev/null`` replaced by root would be an ordinary file to every other program.
    """
    try:
        ordinary = S_ISREG(path.lstat().st_mode)
    except OSError:  # there is none yet, or nobody may look
        ordinary = True
    if ordinary:
        write_file(path, content)
        return
    try:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}; make room, or name another file"
        ) from None
