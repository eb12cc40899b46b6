# SPDX-License-Identifier: Apache-2.0
"""The ledger of a server beside disks that are full, and more requests than it has room for."""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from pathlib import Path

import pytest
from buildset_registry.ledger.files import LedgerFiles, read_ledger
from buildset_registry.ledger.ledger import Ledger
from buildset_registry.ledger.rows import Key, Row
from buildset_registry.upstream.counters import UpstreamCounters

from tests.unit.ledger.test_joining import INDEX, Memory


class Disk(LedgerFiles):
    """A disk that is full, or not."""

    full = True

    def __init__(self, folder: Path, most: int) -> None:
        super().__init__(folder, most)
        self._tries = threading.Semaphore(0)

    async def tried(self) -> None:
        """Wait until it has refused something."""
        await asyncio.to_thread(self._tries.acquire)

    def append(self, lines: bytes) -> None:
        if self.full:
            self._tries.release()
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(lines)


def key(number: int) -> Key:
    """Return a request of its own."""
    return ("10.0.0.1", None, "x" * 2000, "end-3", "app", f"t{number}", INDEX, 200)


async def until(folder: Path, kind: str) -> Row:
    """Wait for a row of a kind and return it."""
    for _turn in range(400):
        found = [row for row in read_ledger(folder).rows if row["kind"] == kind]
        if found:
            return found[0]
        await asyncio.sleep(0.05)
    raise AssertionError(f"there is no row {kind}")


async def test_rows_that_a_full_disk_does_not_take_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The newest wait for room; how many were lost is written then, and said once meanwhile."""
    disk = Disk(tmp_path, 10_000_000)
    ledger = Ledger(disk, Memory(), UpstreamCounters())
    ledger.start()
    with caplog.at_level(logging.WARNING):
        for number in range(2500):
            ledger.sightings.begin(key(number)).requests += 1
        await disk.tried()
        disk.full = False
        lost = await until(tmp_path, "lost")
    await ledger.close()
    rows = [row for row in read_ledger(tmp_path).rows if row["kind"] == "pull"]
    assert len(rows) + lost["rows"] == 2501  # one tells of the start
    assert rows[-1]["reference"] == "t2499"
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "cannot be written" in line]) == 1
    assert "No space left on device" in lost["reason"]


async def test_a_ledger_that_ends_writes_the_rest(tmp_path: Path) -> None:
    """A round that has just begun is not waited for."""
    ledger = Ledger(LedgerFiles(tmp_path, 10_000), Memory(), UpstreamCounters())
    ledger.start()
    ledger.sightings.begin(key(1)).requests += 1
    await ledger.close()
    assert [row["kind"] for row in read_ledger(tmp_path).rows] == ["start", "pull"]


async def test_a_ledger_that_ends_in_the_midst_of_a_round_loses_none_of_it(tmp_path: Path) -> None:
    """A store may be slow; what the round took is in no other place."""

    class Slow(Memory):
        asked, told = asyncio.Event(), asyncio.Event()

        async def source(self, name: str, reference: str, digest: str, now: float) -> Row:
            self.asked.set()
            await self.told.wait()
            return await super().source(name, reference, digest, now)

    facts = Slow()
    ledger = Ledger(LedgerFiles(tmp_path, 1_000_000), facts, UpstreamCounters())
    for number in range(3):
        ledger.sightings.begin(key(number)).requests += 1
    ledger.start()
    await facts.asked.wait()
    closing = asyncio.create_task(ledger.close())
    await asyncio.sleep(0)
    facts.told.set()
    await closing
    pulls = [row["reference"] for row in read_ledger(tmp_path).rows if row["kind"] == "pull"]
    assert pulls == ["t0", "t1", "t2"]


async def test_more_than_there_is_room_for_is_counted() -> None:
    """However many kinds of requests come within a round."""
    ledger = Ledger(Disk(Path("unused"), 1), Memory(), UpstreamCounters())
    for number in range(20_010):
        ledger.sightings.begin(key(number))
    assert (len(ledger.sightings.seen), ledger.sightings.lost) == (20_000, 10)
