# SPDX-License-Identifier: Apache-2.0
"""The ledger of a server: takes what requests show at once, and writes it in rounds of its own.

No request waits for it. A disk that is full, or an object store that is gone, costs rows, which are
counted, and no pull.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from buildset_registry import __version__
from buildset_registry.background import stop, supervised
from buildset_registry.ledger.budget import RowBudget
from buildset_registry.ledger.joining import Facts, Joiner
from buildset_registry.ledger.rows import Key, Row, Seen, Sighting, to_line
from buildset_registry.pacing import paced
from buildset_registry.upstream.counters import UpstreamCounters

_log = logging.getLogger("buildset_registry.ledger")

#: Seconds between two rounds; with what a round takes, what a killed process can lose.
_ROUND = 0.5
#: Kinds of requests that one round has room for.
_MOST_SEEN = 20_000
#: Bytes of lines that wait for a disk to have room again.
_MOST_WAITING = 1024 * 1024
#: Seconds between two lines that tell how many rows were lost.
_TOLD = 60.0
#: Reasons for a loss that are told apart: a client's address is in some.
_MOST_REASONS = 20


class LedgerSink(Protocol):
    """The place that the lines of a ledger go to."""

    async def write(self, waiting: dict[str, bytes]) -> None:
        """Write lines, which are there by the rows' ids, and take out what is written.

        ``OSError`` where something cannot be written for now.
        """


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
        sink: LedgerSink,
        facts: Facts,
        upstream: UpstreamCounters,
        clock: Callable[[], float] = time.time,
        budget: RowBudget | None = None,
    ) -> None:
        self.sightings = Sightings()
        self._sink = sink
        self._budget = budget
        self._joiner = Joiner(facts)
        self._upstream = upstream
        self._clock = clock
        self._told: dict[str, Row] = {}
        self._waiting: dict[str, bytes] = {}
        self._lost: Counter[str] = Counter()
        self._told_of_loss = -_TOLD
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
            self._told_of_loss = -_TOLD
            await self._round(math.inf)

    async def _run(self) -> None:
        while True:
            self._current = asyncio.create_task(self._round(time.monotonic()))
            await asyncio.shield(self._current)
            if not (self._waiting or self._lost or self._joiner.holds):
                await self.sightings.arrived.wait()
            await asyncio.sleep(_ROUND)

    async def _round(self, now: float) -> None:
        async for key, seen in paced(self.sightings.take().items()):
            await self._joiner.add(Sighting._make(key), seen)
        lost, self.sightings.lost = self.sightings.lost, 0
        self._lose(lost, "more came at once than it has room for")
        self._tell_of_upstreams()
        async for row in paced(self._joiner.take(now)):
            self._add(row)
        self._tell_of_loss(now)
        await self._write()

    def _add(self, row: Row) -> None:
        """Let a row wait to be written, where there is room for it."""
        line = to_line(row)
        refusal = self._budget.refusal(row, len(line)) if self._budget else ""
        if refusal:
            self._lose(1, refusal)
        else:
            self._waiting[row["id"]] = line

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

    def _tell_of_loss(self, now: float) -> None:
        """Add the rows that tell of those that were lost; a flood is not to make a flood."""
        if not self._lost or self._failing or now - self._told_of_loss < _TOLD:
            return
        self._told_of_loss = now
        for reason, rows in self._lost.items():
            row = self._joiner.row("lost", self._clock()) | {"rows": rows, "reason": reason}
            self._waiting[row["id"]] = to_line(row)
            _log.warning("%d rows of the ledger are lost: %s", rows, reason)
        self._lost.clear()

    async def _write(self) -> None:
        """Write lines; those that cannot be written wait for a while."""
        if not self._waiting:
            return
        try:
            await self._sink.write(self._waiting)
        except OSError as error:
            self._keep(error)
            return
        self._failing = False

    def _keep(self, error: OSError) -> None:
        """Keep the newest of what could not be written, to try again in the next round."""
        if not self._failing:
            _log.error("the ledger cannot be written: %s; pulls and pushes go on", error.strerror)
        self._failing = True
        dropped, size = 0, sum(map(len, self._waiting.values()))
        for which in [*self._waiting]:
            if size <= _MOST_WAITING:
                break
            size -= len(self._waiting.pop(which))
            dropped += 1
        self._lose(dropped, f"it could not be written: {error.strerror}")

    def _lose(self, rows: int, reason: str) -> None:
        if rows:
            known = reason in self._lost or len(self._lost) < _MOST_REASONS
            self._lost[reason if known else "several clients asked for too much"] += rows


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
