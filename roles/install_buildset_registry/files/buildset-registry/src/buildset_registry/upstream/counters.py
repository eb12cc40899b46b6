# SPDX-License-Identifier: Apache-2.0
"""Counters of pull-through: plain numbers that ``/metrics`` reads."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Stale answers that are remembered.
_MOST_STALE = 4096


#: A number, and the seconds that it is for: ``100;w=21600``.
_QUOTA = re.compile(r"\s*([0-9]{1,9})\s*(?:;\s*w=([0-9]{1,9}))?")
#: The part of a limit below which somebody should do something about it.
_LOW = 0.2


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The limit of an upstream, as it told it last: Docker Hub limits GETs of manifests."""

    limit: int
    remaining: int
    window: int
    """Seconds that the limit is for; 0 where the upstream does not tell."""

    told: float
    """When, in seconds since the epoch."""

    @classmethod
    def read(cls, headers: Mapping[str, str], now: float) -> RateLimit | None:
        """Return the limit that an answer tells; None where it tells none that can be read."""
        limit = _QUOTA.match(headers.get("ratelimit-limit", ""))
        remaining = _QUOTA.match(headers.get("ratelimit-remaining", ""))
        if limit is None or remaining is None:
            return None
        window = limit[2] or remaining[2] or 0
        return cls(int(limit[1]), int(remaining[1]), int(window), now)

    @property
    def low(self) -> bool:
        """Tell whether less than a fifth is left."""
        return self.remaining < self.limit * _LOW

    def __str__(self) -> str:
        hours = f" in {self.window / 3600:g} hours" if self.window else ""
        return f"{self.remaining} of {self.limit} pulls{hours} are left"

    def to_json(self) -> dict[str, object]:
        """Return it as plain values."""
        return {
            "limit": self.limit,
            "remaining": self.remaining,
            "window": self.window,
            "told": self.told,
        }


@dataclass(slots=True)
class UpstreamCounters:
    """Since the start of the process; ``downloads`` goes down again."""

    requests: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Requests to upstreams by upstream, method and status, ``failed`` where there is none."""

    hits: Counter[str] = field(default_factory=Counter)
    """``manifest`` and ``blob``: upstream's content that was served from the store."""

    misses: Counter[str] = field(default_factory=Counter)
    """``manifest`` and ``blob``: fetches, however many clients waited for each."""

    stale: int = 0
    """Answers from the store because upstream could not be asked whether they still hold."""

    received: int = 0
    """Bytes of blobs from upstreams."""

    downloads: int = 0
    """Blobs that are on their way from upstreams."""

    served: int = 0
    """Clients that are given those; goes down again."""

    received_from: Counter[str] = field(default_factory=Counter)
    """Bytes of blobs by upstream."""

    limits: dict[str, RateLimit] = field(default_factory=dict)
    """The limits of the upstreams that tell one."""

    stale_names: dict[tuple[str, str], float] = field(default_factory=dict)
    """When a tag was last served without asking whether it holds, by repository and tag."""

    def note_stale(self, name: str, reference: str) -> None:
        """Count an answer that may be out of date."""
        self.stale += 1
        if len(self.stale_names) >= _MOST_STALE:
            self.stale_names.clear()
        self.stale_names[name, reference] = time.time()
