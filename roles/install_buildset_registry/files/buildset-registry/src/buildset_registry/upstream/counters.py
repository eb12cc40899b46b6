# SPDX-License-Identifier: Apache-2.0
"""Counters of pull-through: plain numbers that ``/metrics`` reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


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
