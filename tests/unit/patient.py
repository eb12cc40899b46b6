# SPDX-License-Identifier: Apache-2.0
"""An event loop whose time stands still while the machine does not run it.

Tests that wait for a time-out of some tenths of a second also make requests that are to be answered
within it. A busy machine may rest a process for seconds; when it goes on, all is late at once. So
of the time of this loop, by which asyncio and aiohttp time out, no more than a moment passes at
once, whatever it takes. No sleep is shorter by that.
"""

from __future__ import annotations

import asyncio
import selectors
import time

#: The seconds that a pause of the machine may take from whoever waits.
_MOMENT = 0.02


class _Watched(selectors.DefaultSelector):
    """A selector that waits for a moment at a time, and counts of each no more than that."""

    def __init__(self) -> None:
        super().__init__()
        self._counted, self._since = 0.0, time.monotonic()

    @property
    def now(self) -> float:
        """Return the seconds that have passed, pauses of the machine left out."""
        return self._counted + min(time.monotonic() - self._since, _MOMENT)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        until = None if timeout is None else self.now + timeout
        while True:
            self._count()
            left = None if until is None else min(max(until - self._counted, 0.0), _MOMENT)
            ready = super().select(left)
            self._count()
            if ready or (until is not None and self._counted >= until):
                return ready

    def _count(self) -> None:
        self._counted, self._since = self.now, time.monotonic()


class PatientLoop(asyncio.SelectorEventLoop):
    """An event loop that a pause of the machine takes no time from."""

    def __init__(self) -> None:
        self._watched = _Watched()
        super().__init__(self._watched)

    def time(self) -> float:
        """Return the seconds that have passed, by which timers go."""
        return self._watched.now
