# SPDX-License-Identifier: Apache-2.0
"""A bar on a terminal that shows how far something has come; elsewhere nothing."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, TextIO

_WIDTH = 30
#: Seconds between two drawings.
_PAUSE = 0.1
_CLEAR = "\r\x1b[K"


class Step(Protocol):
    """How far a stage has come; the total is 0 where that is not known."""

    @property
    def stage(self) -> str:
        """What is going on."""

    @property
    def done(self) -> int:
        """How much is done."""

    @property
    def total(self) -> int:
        """How much there is."""


class Bar:
    """One line that is drawn again and again, and gone at the end."""

    def __init__(self, output: TextIO) -> None:
        self._output = output if output.isatty() else None
        self._drawn = 0.0

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._output is not None and self._drawn:
            self._output.write(_CLEAR)
            self._output.flush()

    def show(self, step: Step) -> None:
        """Draw, unless that was done a moment ago."""
        if self._output is None or time.monotonic() - self._drawn < _PAUSE:
            return
        self._drawn = time.monotonic()
        self._output.write(f"{_CLEAR}{line(step)}")
        self._output.flush()


def line(step: Step) -> str:
    """Return the bar as text."""
    if not step.total:
        return f"{step.stage} {step.done:,}"
    filled = _WIDTH * min(step.done, step.total) // step.total
    drawn = "#" * filled + "." * (_WIDTH - filled)
    return f"[{drawn}] {step.stage} {step.done:,} of {step.total:,}"
