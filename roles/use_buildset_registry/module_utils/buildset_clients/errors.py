# SPDX-License-Identifier: Apache-2.0
"""The error that ends the work: one line that says what is wrong and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HINTS = {
    errno.EACCES: "give {who} the right to do so, by chown or chmod, or leave that {what} out",
    errno.EPERM: "give the file to {who} by chown, or leave that {what} out",
    errno.EROFS: "its file system is read-only: remount it, or leave its client out",
    errno.ENOSPC: "make room on its file system",
    errno.EDQUOT: "make room in the quota of {who}",
    errno.ELOOP: "a link leads back to itself: remove it",
    errno.EISDIR: "a folder has the name of the file: remove or rename it",
    errno.ENOTDIR: "a file has the name of a folder: remove or rename it",
    errno.ENAMETOOLONG: "use a shorter name",
}
_OTHERWISE = "mend that, and run the role again"


class ClientError(Exception):
    """A node's file, program or registry that cannot be used as it is."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(line.strip() for line in message.splitlines()))


def cannot(verb: str, name: str, error: OSError, who: str = "") -> ClientError:
    """Tell that a file cannot be read or written, and what to do."""
    hint = _HINTS.get(error.errno or 0, _OTHERWISE)
    hint = hint.format(who=who or "the user of this task", what="user" if who else "client")
    doing = {"read": "read", "write": "written", "make": "made"}[verb]
    return ClientError(f"{name}: cannot be {doing} ({error.strerror or error}); {hint}")


@contextmanager
def taking(path: str, client: str) -> Iterator[None]:
    """Turn whatever a file's content makes of the work on it into one line with its name.

    Files are other people's: a key may have a value of any type. What a client knows better, with
    the key and the line, it has said by then. Where no path is given, the file is the one that the
    work was at.
    """
    try:
        yield
    except (ClientError, OSError):
        raise
    except Exception as error:
        raise ClientError(_told(path or _path_at(error, client), client, error)) from error


def unexpected(error: Exception) -> str:
    """Tell of an error of the role itself; its own words may hold a password."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = (
        f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
        if trace
        else "?"
    )
    what = f"this role has met something that it does not know ({type(error).__name__} at {place})"
    return f"{what}; report it with the versions of the node's tools, and use the role without them"


def _told(path: str, client: str, error: Exception) -> str:
    mend = "mend the file, nothing was changed"
    if isinstance(error, UnicodeDecodeError):
        return f"{path}, line {_line(error)}: not UTF-8; {mend}"
    if isinstance(error, RecursionError):
        return f"{path}: nested too deeply, or within itself; {mend}"
    what = f"{path}: something in it is of another kind than {client} takes there"
    return f"{what}; compare it with the documentation of {client} and {mend}"


def _line(error: UnicodeDecodeError) -> int:
    return bytes(error.object[: error.start]).count(b"\n") + 1


def _path_at(error: Exception, client: str) -> str:
    """Find the file that the innermost function was at which was given one."""
    found, trace = f"a file of {client}", error.__traceback__
    while trace:
        path = trace.tb_frame.f_locals.get("path")
        found = str(path) if isinstance(path, (str, Path)) and str(path)[:1] == "/" else found
        trace = trace.tb_next
    return found
