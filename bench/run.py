# SPDX-License-Identifier: Apache-2.0
"""What a measure needs to know of the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.content import Content
from bench.identity import Identity


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
