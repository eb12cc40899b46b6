# SPDX-License-Identifier: Apache-2.0
"""Opening a file to append to it in a folder that others may write, where they may lay links.

The log of a job is in a folder of the job's user, and the registry may be root's: a link there must
not lead it to a file that is root's alone.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def append_to(file: Path) -> int:
    """Return a descriptor of a file, which is made with its folders where it is missing.

    Where somebody else may change a folder on the way, no link in it is followed, and the file has
    to be a plain one of one name. ``OSError`` says what is wrong.
    """
    folder = os.open("/", _FOLDER)
    try:
        for part in file.absolute().parent.parts[1:]:
            inner = _enter(folder, part)
            os.close(folder)
            folder = inner
        descriptor = _open(folder, file.name)
        # To open what is no file must not wait, to write to a pipe may.
        os.set_blocking(descriptor, True)
        return descriptor
    finally:
        os.close(folder)


def _enter(folder: int, name: str) -> int:
    flags = _FOLDER | (0 if _is_ours(folder) else os.O_NOFOLLOW)
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        os.mkdir(name, 0o755, dir_fd=folder)
        return os.open(name, flags, dir_fd=folder)


def _open(folder: int, name: str) -> int:
    if _is_ours(folder):
        return os.open(name, _FILE, 0o644, dir_fd=folder)
    try:
        descriptor = os.open(name, _FILE | os.O_NOFOLLOW, 0o644, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise OSError(error.errno, _REFUSED) from None
        raise
    state = os.fstat(descriptor)
    if stat.S_ISREG(state.st_mode) and state.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    raise OSError(errno.ELOOP, _REFUSED)


_REFUSED = "it is a link or no file, and others may write to its folder"


def _is_ours(folder: int) -> bool:
    """Tell whether nobody but root and this user can lay a link into a folder."""
    state = os.fstat(folder)
    others = state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return state.st_uid in (0, os.geteuid()) and not others
