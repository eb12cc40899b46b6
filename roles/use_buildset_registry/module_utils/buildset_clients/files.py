# SPDX-License-Identifier: Apache-2.0
"""Files that are whole at every moment: what is written is on disk before it has the name."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .errors import ClientError

_LABEL = "security.selinux"
_NO_LABEL = (errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class FileStatus:
    """Owner and mode of a file that there was."""

    mode: int
    uid: int
    gid: int


def read(path: Path) -> bytes | None:
    """Read a file, or nothing where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise ClientError(f"{path}: cannot be read ({error.strerror})") from error


def status(path: Path) -> FileStatus | None:
    """Tell owner and mode."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return FileStatus(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)


def write(path: Path, content: bytes, mode: int) -> None:
    """Write a file; one that exists keeps its owner, its label and its place behind a link."""
    target = Path(os.path.realpath(path))
    before = status(target)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if before and (before.uid, before.gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), before.uid, before.gid)
            os.fsync(file.fileno())
        _copy_label(target, temporary)
        _rename(temporary, target, content)
    finally:
        temporary.unlink() if temporary.exists() else None
    _sync(target.parent)


def remove(path: Path) -> None:
    """Remove a file."""
    path.unlink()
    _sync(path.parent)


def make_folder(path: Path, mode: int = 0o755) -> list[str]:
    """Make a folder and those above it; return those that were missing, the innermost first."""
    missing = []
    folder = path
    while not folder.exists():
        missing.append(str(folder))
        folder = folder.parent
    for name in reversed(missing):
        Path(name).mkdir(mode=mode)
    return missing


def _rename(temporary: Path, target: Path, content: bytes) -> None:
    try:
        temporary.replace(target)
    except OSError as error:
        # A file that is a mount of its own, as /etc/hosts is in a container, keeps its place.
        if error.errno not in (errno.EBUSY, errno.EXDEV):
            raise
        with target.open("r+b") as file:
            file.write(content)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())


def _copy_label(source: Path, target: Path) -> None:
    try:
        os.setxattr(target, _LABEL, os.getxattr(source, _LABEL))
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in _NO_LABEL:
            raise


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
