# SPDX-License-Identifier: Apache-2.0
"""How many uploads may send at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from buildset_registry.errors import TooManyRequests


class Transfers:
    """Counts the requests that send a blob; shared by all endpoints."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.running = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one while it sends; ``TooManyRequests`` where enough do. A limit of 0 is none."""
        if self._limit and self.running >= self._limit:
            raise TooManyRequests(
                f"{self.running} uploads are running, as many as limits.uploads allows; "
                "try again soon",
                headers={"Retry-After": "1"},
            )
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
