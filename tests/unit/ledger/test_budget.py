# SPDX-License-Identifier: Apache-2.0
"""A flood of requests does not push out of the ledger what others did."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
from buildset_registry.ledger.budget import RowBudget
from buildset_registry.ledger.content import RowReader
from buildset_registry.ledger.files import LedgerFiles, read_ledger
from buildset_registry.ledger.joining import Joiner
from buildset_registry.ledger.ledger import Ledger
from buildset_registry.ledger.rows import Key, Row, Seen, Sighting
from buildset_registry.upstream.counters import UpstreamCounters

from tests.unit.ledger.test_files import line
from tests.unit.ledger.test_joining import INDEX, Memory

SIZE = 8 * 64 * 1024


def refused(budget: RowBudget, kind: str, client: str, number: int, size: int = 1024) -> int:
    row: Row = {"kind": kind, "client": client}
    return sum(bool(budget.refusal(row, size)) for _ in range(number))


def test_one_client_has_a_half_and_the_others_the_rest() -> None:
    """A host of IPv6 is one client, by whichever of its addresses; an hour later all have room."""
    now = [0.0]
    budget = RowBudget(SIZE, lambda: now[0])
    assert refused(budget, "pull", "10.0.0.1", 100) == 100 - 32
    assert refused(budget, "pull", "10.0.0.2", 32) == 0
    many = [refused(budget, "pull", f"2001:db8::{number:x}", 1) for number in range(100)]
    assert sum(many) == 100 - 32
    assert refused(budget, "pull", "2001:db8:0:1::1", 1) == 0
    assert "10.0.0.1 asked for more" in budget.refusal({"kind": "pull", "client": "10.0.0.1"}, 1)
    now[0] = 3600.0
    assert refused(budget, "pull", "10.0.0.1", 32) == 0


def test_what_is_not_served_has_an_eighth_whoever_asks() -> None:
    """What is pushed, and what a server tells of itself, has no such bound."""
    budget = RowBudget(SIZE)
    assert sum(refused(budget, "missing", f"10.0.0.{n}", 1) for n in range(20)) == 20 - 8
    assert refused(budget, "pull", "10.0.0.1", 30) == 0
    assert refused(budget, "push", "10.0.0.1", 1000) == 0
    assert budget.refusal({"kind": "start"}, SIZE) == ""


def test_clients_without_end_take_no_memory_without_end() -> None:
    """Those past a number share what one of them has."""
    budget = RowBudget(SIZE)
    for number in range(5000):
        refused(budget, "pull", f"10.{number >> 8}.{number & 255}.1", 1)
    assert len(budget._clients) == 4097
    assert refused(budget, "pull", "not an address", 1) == 1


def flood(number: int) -> Key:
    return ("10.6.6.6", None, "x", "end-3", f"none{number}", "t", "", 404)


async def test_a_flood_leaves_what_was_pulled_before_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten times as much as there is room for; how many rows are lost is told seldom."""
    files = LedgerFiles(tmp_path, SIZE)
    ledger = Ledger(files, Memory(), UpstreamCounters(), budget=RowBudget(SIZE))
    pulled = ("10.0.0.1", None, "docker", "end-3", "app", "1.0", INDEX, 200)
    ledger.sightings.begin(pulled).requests += 1
    with caplog.at_level(logging.WARNING):
        for turn in range(4):
            for number in range(4000):
                ledger.sightings.begin(flood(turn * 4000 + number)).requests += 1
            await ledger._round(float(turn))
        await ledger._round(math.inf)
    found = read_ledger(tmp_path)
    kinds = [row["kind"] for row in found.rows]
    assert kinds.count("pull") == 1
    lost = [row for row in found.rows if row["kind"] == "lost"]
    assert sum(row["rows"] for row in lost) == 16_000 - kinds.count("missing")
    assert len(lost) == len(caplog.records) == 2  # the first time, and at the end


async def test_a_client_that_waits_for_an_image_writes_seldom() -> None:
    """Twice a second for an hour is some lines, of which the last has all requests."""
    joiner = Joiner(Memory())
    missing = Sighting("10.0.0.1", None, "docker", "end-3", "app", "t", "", 404)
    told = []
    for step in range(7200):
        await joiner.add(missing, Seen(step / 2, step / 2, requests=1))
        told += [{**row} for row in joiner.take(step / 2)]
    told += joiner.take()
    assert len(told) < 75
    assert told[-1]["requests"] == 7200 and not joiner.holds


def test_a_ledger_that_is_larger_than_memory_keeps_its_newest_rows() -> None:
    """Of each kind; how many older ones there are is counted, and no kind pushes out another."""
    reader = RowReader({"pull": 3}, others=2)
    for number in range(10):
        reader.add(line(number, kind="pull"))
    for number in range(20, 25):
        reader.add(line(number, kind="missing"))
    reader.add(line(8, kind="pull", requests=2))
    found = reader.content([])
    assert [row["id"] for row in found.rows] == ["boot-7", "boot-8", "boot-9", "boot-23", "boot-24"]
    assert found.rows[1]["requests"] == 2
    assert found.older == {"pull": 7, "missing": 3}
