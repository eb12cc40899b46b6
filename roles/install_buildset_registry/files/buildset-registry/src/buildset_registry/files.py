# SPDX-License-Identifier: Apache-2.0
"""Files that are replaced at once and whole, and what a user names that may be no such file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from buildset_registry.errors import ConfigError


def write_file(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """Create or replace a file at once and whole, never readable by more than ``mode`` says.

    Its content is on disk before it has the name: a power cut leaves the old file or the new one.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
    except OSError as error:
        homeless = isinstance(error, (FileNotFoundError, NotADirectoryError))
        hint = "make its folder first" if homeless else "make room, or run this as another user"
        raise ConfigError(f"cannot write {path}: {error.strerror}; {hint}") from None


def write_output(path: Path, content: bytes | str) -> None:
    """Write what a user has named: a file as ``write_file`` does, at the end of a link, too.

    A device or a pipe, such as ``/dev/stdout``, is written to: a file must not take its place.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        try:
            path.write_bytes(data)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}; name another file") from None
        return
    write_file(path.resolve() if path.is_symlink() else path, data)
