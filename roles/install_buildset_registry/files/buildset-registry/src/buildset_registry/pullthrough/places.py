# SPDX-License-Identifier: Apache-2.0
"""Fetches of blobs and their places: how many there are at once, and who waits to start another.

A fetch outlives the client that started it, so clients that leave at once could start any number,
each with a connection and files of its own. Who wants a blob that is on its way needs no place.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, NamedTuple

from buildset_registry.auth.access import client_network
from buildset_registry.errors import TooManyRequests, UpstreamFailed
from buildset_registry.sources import Asker

_log = logging.getLogger("buildset_registry.upstream")

#: The places where nothing else is said.
_PLACES = 128
#: Seconds for which a client waits for a place. Docker gives a pull up at 429, so this is long; and
#: shorter than the minute after which reverse proxies give an answer up.
_WAIT_SECONDS = 50.0
#: Seconds after which a client that was refused may try again.
_AGAIN_SECONDS = 5


class _Waiter(NamedTuple):
    """Somebody who waits for a place."""

    client: str
    key: Hashable
    """What is to be fetched."""


class FetchPlaces:
    """The fetches that are under way, each in one of ``limit`` places; 0 is no limit.

    Three quarters are as many as one client may have: the rest is for others, whatever that one
    does.
    """

    def __init__(self, limit: int = _PLACES, wait_seconds: float = _WAIT_SECONDS) -> None:
        self._limit = limit
        self._each = max(1, limit * 3 // 4)
        self._seconds = wait_seconds
        self._own: Counter[str] = Counter()
        self._fetches: set[asyncio.Task[None]] = set()
        self.taken = 0
        # In the order in which they came.
        self._waiting: dict[asyncio.Future[bool], _Waiter] = {}

    def take(self, client: str) -> bool:
        """Take a place, if there is one for a client."""
        if self._limit:
            full = self.taken >= self._limit
            if full or (client and self._own[client] >= self._each):
                return False
        self.taken += 1
        self._own[client] += 1
        return True

    def begin(
        self, key: Hashable, client: str, start: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Begin a fetch, which has the place that a client took up to its end.

        Who waits to fetch the same waits no more. Errors are those of the fetch, to whoever reads.
        """
        fetch = asyncio.create_task(start())
        self._fetches.add(fetch)
        fetch.add_done_callback(partial(self.give_back, client))
        for turn, waiter in self._waiting.items():
            if waiter.key == key and not turn.done():
                turn.set_result(False)

    def give_back(self, client: str, ended: asyncio.Task[None] | None = None) -> None:
        """Let others have a place that nobody needs, or that a fetch had which has ended."""
        if ended is not None:
            self._fetches.discard(ended)
            if not ended.cancelled() and ended.exception() is not None:
                _log.error("a fetch failed", exc_info=ended.exception())
        self.taken -= 1
        self._own[client] -= 1
        if not self._own[client]:
            del self._own[client]
        if self._waiting:
            self._serve()

    async def wait(self, key: Hashable, asker: Asker | None) -> bool:
        """Wait for a place, which is taken then, or until somebody else fetches ``key``: False.

        ``TooManyRequests`` where that takes too long; what ``asker`` raises where it leaves.
        """
        client = client_of(asker)
        left = None if asker is None else asker.watch()
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = _Waiter(client, key)
        mine = False
        try:
            both: list[asyncio.Future[Any]] = [turn] if left is None else [turn, left]
            await asyncio.wait(both, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
            if left is not None and left.done():
                left.result()
            if not turn.done():
                raise self._too_many(client)
            mine = turn.result()
            return mine
        finally:
            del self._waiting[turn]
            if not mine and turn.done() and turn.exception() is None and turn.result():
                self.give_back(client)

    async def close(self) -> None:
        """Stop the fetches that are under way, and the waiting for others."""
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(UpstreamFailed("the registry is being stopped; try again"))
        fetches = list(self._fetches)
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)

    def _serve(self) -> None:
        """Give free places to those who wait: first to whoever has fewest, then who came first."""
        turns = [(turn, one.client) for turn, one in self._waiting.items() if not turn.done()]
        for turn, client in sorted(turns, key=lambda one: self._own[one[1]]):
            if self.take(client):
                turn.set_result(True)

    def _too_many(self, client: str) -> TooManyRequests:
        number, whose = self.taken, ""
        if number < self._limit:
            number, whose = self._own[client], f" to one client, {client}"
        return TooManyRequests(
            f"{number} blobs are being fetched from upstreams, as many as limits.fetches allows"
            f"{whose}; try again soon",
            headers={"Retry-After": str(_AGAIN_SECONDS)},
        )


def client_of(asker: Asker | None) -> str:
    """Return whose places somebody takes: a host of IPv6 has as many addresses as it likes."""
    return "" if asker is None else client_network(asker.client)
