# SPDX-License-Identifier: Apache-2.0
"""Files that are whole at every moment: what is written is on disk before it has the name.

A file is written in two steps: its new content is staged beside it, which is where a disk that is
full, a file system that is read-only or an owner that cannot be kept show; then it takes the name.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import ClientError, cannot

#: The end of the name of content that is staged; no client reads files that are named so.
_STAGED = ".buildset-registry"
#: Attributes that belong to what a file is: its label, and who may read it beside its mode.
_LABEL, _RIGHTS = "security.selinux", "system.posix_acl_access"
_NO_ATTRIBUTES = (errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class FileStatus:
    """Owner and mode of a file that there was."""

    mode: int
    uid: int
    gid: int
    names: int = 1
    """The names that it has: hard links."""


def read(path: Path) -> bytes | None:
    """Read a file, or nothing where there is none."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ClientError(f"{path}: is no regular file; remove it or put one in its place")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise cannot("read", str(path), error) from error


def status(path: Path) -> FileStatus | None:
    """Tell owner and mode."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return FileStatus(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_nlink)


@dataclass(frozen=True)
class Staged:
    """The new content of a file, on disk beside it."""

    target: Path
    temporary: Path
    content: bytes
    in_place: bool
    """Whether the file has another name, which would not see a new one."""

    def take(self) -> None:
        """Give it the name of the file."""
        try:
            if self.in_place:
                self._overwrite()
            else:
                self.temporary.replace(self.target)
        except OSError as error:
            # A file that is a mount of its own, as /etc/hosts is in a container, keeps its place.
            if error.errno not in (errno.EBUSY, errno.EXDEV):
                raise
            self._overwrite()
        self.discard()
        _sync(self.target.parent)

    def discard(self) -> None:
        """Remove it."""
        with suppress(FileNotFoundError):
            self.temporary.unlink()

    def _overwrite(self) -> None:
        mode = stat.S_IMODE(self.temporary.stat().st_mode)
        with self.target.open("r+b") as file:
            os.fchmod(file.fileno(), mode)
            file.write(self.content)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())


def stage(path: Path, content: bytes, mode: int) -> Staged:
    """Put the new content of a file beside it; one that exists keeps its owner, its attributes
    and its place behind a link."""
    target = real(path)
    before = status(target)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=_STAGED, dir=target.parent)
    staged = Staged(target, Path(name), content, before is not None and before.names > 1)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            if before:
                _keep_owner(file.fileno(), before)
                _keep_attributes(target, staged.temporary)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
    except BaseException:
        staged.discard()
        raise
    return staged


def write(path: Path, content: bytes, mode: int) -> None:
    """Write a file."""
    staged = stage(path, content, mode)
    try:
        staged.take()
    finally:
        staged.discard()


def remove(path: Path) -> None:
    """Remove a file; a link to it stays."""
    target = real(path)
    with suppress(FileNotFoundError):
        target.unlink()
        _sync(target.parent)


def remove_staged(path: Path) -> None:
    """Remove what a run that was killed has staged for a file."""
    target = real(path)
    with suppress(OSError):
        for one in target.parent.iterdir():
            if one.name.startswith(f".{target.name}.") and one.name.endswith(_STAGED):
                one.unlink()


def beside(path: Path) -> Path:
    """Tell the place beside a folder where it is until it has its name, or after it had it."""
    return path.with_name(f".{path.name}{_STAGED}")


def move(source: Path, target: Path) -> None:
    """Give a folder another name in the same folder."""
    source.replace(target)
    _sync(target.parent)


def real(path: Path) -> Path:
    """Tell where a file is that links may lead to, or will be once it is there."""
    return Path(os.path.realpath(path))


def missing_folders(path: Path) -> list[Path]:
    """Tell which folders are not there, of one and of those above it; the innermost first."""
    missing = []
    folder = real(path)
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    return missing


def make_folder(path: Path, mode: int = 0o755) -> list[Path]:
    """Make a folder and those above it; return those that were missing, the innermost first."""
    missing = missing_folders(path)
    for folder in reversed(missing):
        folder.mkdir(mode=0o700)
        folder.chmod(mode)
    return missing


@contextmanager
def readable() -> Iterator[None]:
    """Have what commands write be readable by all, whatever the umask of the job is."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _keep_owner(handle: int, before: FileStatus) -> None:
    found = os.fstat(handle)
    if (before.uid, before.gid) != (found.st_uid, found.st_gid):
        os.fchown(handle, before.uid, before.gid)


def _keep_attributes(source: Path, target: Path) -> None:
    """Give a file the attributes of another one, and take what its folder has given it."""
    wanted, found = _attributes(source), _attributes(target)
    for name in found:
        if name not in wanted and name != _LABEL:
            os.removexattr(target, name)
    for name, value in wanted.items():
        if found.get(name) != value:
            os.setxattr(target, name, value)


def _attributes(path: Path) -> dict[str, bytes]:
    try:
        names = os.listxattr(path)
        kept = [one for one in names if one in (_LABEL, _RIGHTS) or one.startswith("user.")]
        return {name: os.getxattr(path, name) for name in kept}
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTES:
            raise
        return {}


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
