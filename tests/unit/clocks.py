# SPDX-License-Identifier: Apache-2.0
"""A clock that is off, in place of a module's ``time``."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Shifted:
    """The time, so many seconds later; earlier where they are negative."""

    seconds: float

    def time(self) -> float:
        return time.time() + self.seconds

    def monotonic(self) -> float:
        return time.monotonic() + self.seconds
