# SPDX-License-Identifier: Apache-2.0
"""Counters of requests for ``/metrics``; cheap, since every request adds to them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

#: Upper bounds of the histogram of latencies, in seconds; one more bucket is without bound.
BUCKET_BOUNDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0),
)


@dataclass(slots=True)
class Series:
    """The requests of one route, method and status."""

    requests: int = 0
    sent: int = 0
    received: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKET_BOUNDS) + 1))


class RequestCounters:
    """The requests of one endpoint by route, method and status.

    A request that no route takes has the route ``none`` and the method ``other``: what clients
    invent makes no series.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.series: dict[tuple[str, str, int], Series] = {}
        self.running = 0

    def add(self, key: tuple[str, str, int], sent: int, received: int, seconds: float) -> None:
        """Count a request that has ended."""
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series()
        series.requests += 1
        series.sent += sent
        series.received += received
        series.seconds += seconds
        series.buckets[bisect_left(BUCKET_BOUNDS, seconds)] += 1
