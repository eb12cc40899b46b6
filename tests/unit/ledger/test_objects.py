# SPDX-License-Identifier: Apache-2.0
"""A ledger in an object store: each server has an object an hour, and all are read as one."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Sequence

import pytest
from buildset_registry.ledger import objects
from buildset_registry.ledger.content import LedgerContent
from buildset_registry.ledger.ledger import Ledger
from buildset_registry.ledger.objects import HourlyObjects, read_objects
from buildset_registry.upstream.counters import UpstreamCounters

from tests.unit.ledger.test_files import line
from tests.unit.ledger.test_joining import Memory
from tests.unit.ledger.test_ledger import key

HOUR = 3600.0


class Service:
    """An object store in memory that can be gone, or not answer."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.gone = False
        self.silent = False
        self.keeps = False

    async def list(self) -> AsyncIterator[Sequence[tuple[str, int]]]:
        self._check()
        yield [(name, len(content)) for name, content in reversed(self.objects.items())]

    async def read(self, name: str) -> bytes | None:
        self._check()
        return self.objects.get(name)

    async def write(self, name: str, content: bytes) -> None:
        if self.silent:
            await asyncio.Event().wait()
        self._check()
        self.objects[name] = content

    async def remove(self, name: str) -> None:
        if self.keeps:
            raise OSError(errno.EACCES, "nothing is removed here")
        self._check()
        self.objects.pop(name, None)

    def _check(self) -> None:
        if self.gone:
            raise OSError(errno.EIO, "the service is gone")


def lines(*numbers: int, **values: object) -> dict[str, bytes]:
    return {f"boot-{number}": line(number, **values) for number in numbers}


def ids(content: LedgerContent) -> list[str]:
    return [row["id"] for row in content.rows]


async def test_an_hour_is_an_object_in_which_each_row_stands_once() -> None:
    """Written again and again, it does not grow by rows that are told again."""
    service, now = Service(), [0.0]
    written = HourlyObjects(service, 1_000_000, lambda: now[0])
    for requests in range(5):
        await written.write(lines(1, 2, requests=requests))
    assert [name[:14] for name in service.objects] == ["1970-01-01T00/"]
    (content,) = service.objects.values()
    assert content.count(b"\n") == 2
    now[0] = HOUR
    await written.write(lines(2, requests=9) | lines(3))
    assert len(service.objects) == 2
    found = await read_objects(service)
    assert [(row["id"], row.get("requests")) for row in found.rows] == [
        ("boot-1", 4),
        ("boot-2", 9),
        ("boot-3", None),
    ]


async def test_two_servers_and_a_clock_that_goes_back_write_over_nothing() -> None:
    """Whatever the hour was before, no object that was left is written to again."""
    service, now = Service(), [5 * HOUR]
    first, second = (HourlyObjects(service, 1_000_000, lambda: now[0]) for _ in range(2))
    await first.write(lines(1))
    now[0] = 4 * HOUR
    await first.write(lines(2))
    await second.write(lines(3))
    now[0] = 5 * HOUR
    await first.write(lines(4))
    assert len(service.objects) == 4
    assert ids(await read_objects(service)) == [f"boot-{number}" for number in (1, 2, 3, 4)]


async def test_a_large_object_is_followed_by_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows come at once, and the oldest go where all have too many bytes."""
    monkeypatch.setattr(objects, "_LARGE", 1000)
    service = Service()
    await HourlyObjects(service, 1_000_000).write(lines(*range(100)))
    assert max(map(len, service.objects.values())) < 1200
    assert len(ids(await read_objects(service))) == 100
    await HourlyObjects(service, 3000).write(lines(*range(100, 120)))
    assert sum(map(len, service.objects.values())) < 3000 + 1200


async def test_old_objects_that_cannot_be_removed_now_are_removed_later() -> None:
    """What was written counts as written meanwhile."""
    service, now = Service(), [0.0]
    written = HourlyObjects(service, 1, lambda: now[0])
    await written.write(lines(1))
    now[0] = HOUR
    service.keeps = True
    waiting = lines(2)
    await written.write(waiting)
    assert (waiting, len(service.objects)) == ({}, 2)
    service.keeps = False
    await written.write(lines(3))
    assert [name[:14] for name in service.objects] == ["1970-01-01T01/"]


async def test_a_store_that_is_gone_for_a_while_costs_nothing() -> None:
    """What was seen meanwhile is there afterwards, and a reader says what it lacks."""
    service = Service()
    ledger = Ledger(HourlyObjects(service, 1_000_000), Memory(), UpstreamCounters())
    ledger.start()
    service.gone = True
    ledger.sightings.begin(key(1)).requests += 1
    await asyncio.sleep(0)
    assert (await read_objects(service)).problems == ["the object store: the service is gone"]
    service.gone = False
    await ledger.close()
    assert [row["kind"] for row in (await read_objects(service)).rows] == ["start", "pull"]


async def test_a_store_that_does_not_answer_holds_no_server_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends all the same."""
    monkeypatch.setattr(objects, "_SECONDS", 0.05)
    service = Service()
    service.silent = True
    ledger = Ledger(HourlyObjects(service, 1_000_000), Memory(), UpstreamCounters())
    ledger.start()
    await asyncio.wait_for(ledger.close(), 60)
    assert not service.objects


async def test_an_object_that_somebody_else_wrote_stops_no_reader() -> None:
    """Broken lines are counted, one that is too large is told."""
    service = Service()
    await HourlyObjects(service, 1_000_000).write(lines(1))
    service.objects["2026-01-01T00/x-000001.jsonl"] = line(2) + b"{" + line(3)[:20]
    service.objects["2026-01-01T01/x-000002.jsonl"] = b"x" * (5 << 20)
    found = await read_objects(service)
    assert sorted(ids(found)) == ["boot-1", "boot-2"]
    assert found.broken == 1
    assert found.problems == ["2026-01-01T01/x-000002.jsonl: too large"]
