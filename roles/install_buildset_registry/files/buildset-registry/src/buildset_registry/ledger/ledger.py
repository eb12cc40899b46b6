# SPDX-License-Identifier: Apache-2.0
"""The ledger of a server: takes what requests show at once, and writes it in rounds of its own.

No request waits for it. A disk that is full costs rows, which are counted, and no pull.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from buildset_registry import __version__
from buildset_registry.background import stop, supervised
from buildset_registry.ledger.facts import StoreFacts
from buildset_registry.ledger.files import LedgerFiles
from buildset_registry.ledger.joining import Facts, Joiner
from buildset_registry.ledger.rows import Key, Row, Seen, Sighting, to_line
from buildset_registry.pacing import paced
from buildset_registry.upstream.counters import UpstreamCounters

_log = logging.getLogger("buildset_registry.ledger")

#: Seconds between two rounds; with what a round takes, what a killed process can lose.
_ROUND = 0.5
#: Kinds of requests that one round has room for.
_MOST_SEEN = 20_000
#: Bytes that are written at once.
_BATCH = 32 * 1024
#: Bytes of lines that wait for a disk to have room again.
_MOST_WAITING = 1024 * 1024


class Sightings:
    """The requests since the last round, by kind; ``arrived`` is set where there are some."""

    def __init__(self) -> None:
        self.seen: dict[Key, Seen] = {}
        self.arrived = asyncio.Event()
        self.lost = 0

    def begin(self, key: Key) -> Seen:
        """Return the record of a kind of request that was not seen in this round."""
        made = Seen(time.time(), time.monotonic())
        if len(self.seen) < _MOST_SEEN:
            self.seen[key] = made
            self.arrived.set()
        else:
            self.lost += 1
        return made

    def take(self) -> dict[Key, Seen]:
        """Return what was seen, and begin a round."""
        taken, self.seen = self.seen, {}
        self.arrived.clear()
        return taken


class Ledger:
    """Makes rows of ``sightings`` and appends them to files; close it before the store."""

    def __init__(
        self,
        files: LedgerFiles,
        facts: Facts,
        upstream: UpstreamCounters,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.sightings = Sightings()
        self._files = files
        self._joiner = Joiner(facts)
        self._upstream = upstream
        self._clock = clock
        self._told: dict[str, Row] = {}
        self._waiting: list[bytes] = []
        self._lost = 0
        self._reason = ""
        self._failing = False
        self._task: asyncio.Task[None] | None = None
        self._current: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write; the first line tells that the server started."""
        self._joiner.add_row("start", self._clock(), version=__version__)
        self._task = supervised("writing the ledger", self._run)

    async def close(self) -> None:
        """Write the rest, once the round ends that is under way: what it took is nowhere else."""
        if self._task is not None:
            await stop(self._task)
            if self._current is not None:
                await asyncio.gather(self._current, return_exceptions=True)
            await self._round()

    async def _run(self) -> None:
        while True:
            self._current = asyncio.create_task(self._round())
            await asyncio.shield(self._current)
            if not self._waiting:
                await self.sightings.arrived.wait()
            await asyncio.sleep(_ROUND)

    async def _round(self) -> None:
        async for key, seen in paced(self.sightings.take().items()):
            await self._joiner.add(Sighting._make(key), seen)
        lost, self.sightings.lost = self.sightings.lost, 0
        self._lose(lost, "more came at once than it has room for")
        self._tell_of_upstreams()
        await self._write(map(to_line, self._joiner.take()))

    def _tell_of_upstreams(self) -> None:
        """Add what upstreams were asked and gave since the server started, where that changed."""
        counters, now = self._upstream, self._clock()
        for registry, values in _by_registry(counters).items():
            self._tell("upstream", registry, values | {"registry": registry}, now)
        cache = {"hits": dict(counters.hits), "misses": dict(counters.misses)}
        self._tell("cache", "", {**cache, "stale": counters.stale}, now)

    def _tell(self, kind: str, which: str, values: Row, now: float) -> None:
        """Add a row of numbers that grow; each time it is the same row."""
        key = f"{kind} {which}".strip()
        if self._told.get(key) == values or not any(values.values()):
            return
        self._told[key] = values
        self._joiner.add_numbers(kind, key, now, values)

    async def _write(self, lines: Iterable[bytes]) -> None:
        """Append lines; those that a full disk does not take wait for a while."""
        self._waiting += lines
        try:
            while self._waiting:
                number = _batch(self._waiting)
                content = b"".join(self._waiting[:number])
                await asyncio.to_thread(self._files.append, content)
                del self._waiting[:number]
            if self._lost:
                await self._tell_of_loss()
        except OSError as error:
            self._keep(error)
            return
        self._failing = False

    async def _tell_of_loss(self) -> None:
        """Append the row that tells of those that were lost."""
        row = self._joiner.row("lost", self._clock()) | {"rows": self._lost, "reason": self._reason}
        await asyncio.to_thread(self._files.append, to_line(row))
        _log.warning("%d rows of the ledger are lost: %s", self._lost, self._reason)
        self._lost = 0

    def _keep(self, error: OSError) -> None:
        """Keep the newest of what could not be written, to try again in the next round."""
        if not self._failing:
            _log.error("the ledger cannot be written: %s; pulls and pushes go on", error)
        self._failing = True
        dropped, size = 0, sum(map(len, self._waiting))
        while size > _MOST_WAITING:
            size -= len(self._waiting[dropped])
            dropped += 1
        del self._waiting[:dropped]
        self._lose(dropped, f"it could not be written: {error.strerror}")

    def _lose(self, rows: int, reason: str) -> None:
        if rows:
            self._lost += rows
            self._reason = reason


def keep_ledger(folder: Path, size: int, facts: StoreFacts, upstream: UpstreamCounters) -> Ledger:
    """Return a ledger of a store's images, in files of so many bytes, that has begun to write."""
    ledger = Ledger(LedgerFiles(folder, size), facts, upstream)
    ledger.start()
    return ledger


def _batch(lines: list[bytes]) -> int:
    """Return how many lines are written at once: a disk that is nearly full takes some of them."""
    size = 0
    for number, line in enumerate(lines):
        size += len(line)
        if number and size > _BATCH:
            return number
    return len(lines)


def _by_registry(counters: UpstreamCounters) -> dict[str, Row]:
    """Return the numbers of each upstream."""
    found: dict[str, Row] = {}
    for (registry, method, status), number in counters.requests.items():
        row = found.setdefault(registry, {"requests": Counter()})
        row["requests"][f"{method} {status}"] += number
    for registry, row in found.items():
        row["requests"] = dict(row["requests"])
        row["pulls"] = counters.pulls[registry]
        row["received"] = counters.received_from[registry]
        limit = counters.limits.get(registry)
        if limit is not None:
            row["limit"] = limit.to_json()
    return found
