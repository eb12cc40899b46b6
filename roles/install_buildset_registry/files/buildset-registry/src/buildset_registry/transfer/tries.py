# SPDX-License-Identifier: Apache-2.0
"""The pauses before other tries, and when there is none."""

from __future__ import annotations

from .errors import TransferError

#: The longest that a server may have us wait, in seconds, once and for one request in all.
LONGEST_PAUSE = 300.0
#: A server that is busy is asked again after so many doublings of the first pause at most.
_SELDOM = 5


class Tries:
    """The pauses before other tries.

    So many failures are one too many. Being asked to come back is none: who has too much to do for
    a while is asked less and less often, until it has taken too long in all.
    """

    def __init__(self, most: int, first: float) -> None:
        """Wait for ``first`` seconds after the first failure, and twice as long each time."""
        self._most = most
        self._first = first
        self.progress()

    def progress(self) -> None:
        """Begin to count anew: something has been achieved since the last failure."""
        self._failures = self._busy = 0
        self._waited = 0.0

    def pause(self, error: TransferError) -> float:
        """Return the seconds to wait after a failure, or raise it; that of a server which was
        waited for as long as that makes sense is not transient any more, to whoever called."""
        if error.pause:
            pause = max(error.pause, self._first * (1 << min(self._busy, _SELDOM)))
            self._busy += 1
        else:
            pause = self._first * (1 << self._failures)
            self._failures += 1
        self._waited += pause
        if self._waited > LONGEST_PAUSE:
            error.transient = False
        if self._waited > LONGEST_PAUSE or self._failures >= self._most:
            raise error
        return pause
