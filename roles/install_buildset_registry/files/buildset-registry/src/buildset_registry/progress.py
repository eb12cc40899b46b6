# SPDX-License-Identifier: Apache-2.0
"""Progress of work that takes long: a collection, a verification; a bar at a terminal shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """The part of a stage that is done; ``total`` is 0 where that is not known."""

    stage: str
    done: int
    total: int = 0


#: Called from time to time, on the event loop.
ProgressCallback = Callable[[Progress], None]
