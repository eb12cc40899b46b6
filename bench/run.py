# SPDX-License-Identifier: Apache-2.0
"""What a measure needs to know of the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.content import Content
from bench.identity import Identity
from bench.memory import take_up

#: How much memory is put into the same state, in sizes of the large blob: what is stored takes one,
#: and the kernel does not take just what was free last.
_PLENTY = 4


@dataclass
class Run:
    """The sizes, the content, and the round that is under way (from 0)."""

    folder: Path
    identity: Identity
    content: Content
    seconds: float
    tags: int
    page: int
    repositories: int
    crowd: int
    turn: int = 0

    def settle(self) -> None:
        """Let free memory be in the same state for each; just before data is moved."""
        take_up(_PLENTY * self.content.size)
