# SPDX-License-Identifier: Apache-2.0
"""The error that ends the work: one line that says what is wrong and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

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
    the key and the line, it has said by then.
    """
    try:
        yield
    except (ClientError, OSError):
        raise
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ClientError(
            f"{path}, line {line}: not UTF-8; mend the file, nothing was changed"
        ) from error
    except RecursionError as error:
        what = f"{path}: nested too deeply, or within itself"
        raise ClientError(f"{what}; mend the file, nothing was changed") from error
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        what = f"{path}: something in it is of another kind than {client} takes there"
        hint = f"compare it with what {client} documents and mend it, nothing was changed"
        raise ClientError(f"{what}; {hint}") from error
