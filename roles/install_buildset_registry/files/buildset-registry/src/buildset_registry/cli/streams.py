# SPDX-License-Identifier: Apache-2.0
"""The standard streams of a command, and what the system says when it refuses one or a file."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

#: What to do about a refusal, by its number.
_ADVICE = {
    errno.EACCES: "run this as the user whose it is",
    errno.EPERM: "run this as the user whose it is",
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EROFS: "name a place that can be written",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
_ANY_ADVICE = "see that it is there and can be used"


def open_missing() -> None:
    """Open the streams that a command was started without, as by ``>&-``.

    Otherwise the first file or connection that it opens is its standard output.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8"))


def discard_output() -> None:
    """Write what is left of the output nowhere: Python tries again when it ends, and complains."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def reason(error: OSError) -> str:
    """Return a refusal in one line: of what, why, and what to do."""
    try:
        sys.stdout.flush()
        what = f"{error.filename}: " if error.filename else ""
    except OSError:
        what = "cannot write the output: "
        discard_output()
    why = error.strerror or str(error) or type(error).__name__
    return f"{what}{why}; {_ADVICE.get(error.errno or 0, _ANY_ADVICE)}"
