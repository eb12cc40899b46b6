# SPDX-License-Identifier: Apache-2.0
"""What a storm of kills over replicas came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """What a run came to."""

    kills: int = 0
    in_flight: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    """Layers that went on at another replica from where the killed one was."""

    acknowledged: int = 0
    found: int = 0
    left: list[str] = field(default_factory=list)
    """Keys of uploads that are there two days later."""

    unwanted: int = 0
    """Blobs that are there two days later, and no image has."""

    @property
    def figures(self) -> str:
        return (
            f"{self.kills} kills; requests in flight at them: {dict(self.in_flight)}; "
            f"done: {dict(self.done)}; layers resumed at another replica: {self.resumed}; "
            f"{self.acknowledged} images acknowledged, {self.found} found, "
            f"{self.acknowledged - self.found} lost; after the clean-up: "
            f"{len(self.left)} parts and keys of uploads, {self.unwanted} blobs of no image"
        )
