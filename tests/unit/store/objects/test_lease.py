# SPDX-License-Identifier: Apache-2.0
"""One process collects at a time, and one that died does not keep the others from it."""

import asyncio
from dataclasses import replace

import pytest
from buildset_registry.store.objects.lease import Lease, LeaseTimes
from buildset_registry.store.objects.small import SmallObjects

from tests.unit.store.objects.imagined import ImaginedService, LosingService

TIMES = LeaseTimes(renewed=0.01, dead=0.2, looked=0.01, settled=0.05)
#: Where nobody dies, the machine may rest everybody for longer than that.
ALIVE = replace(TIMES, dead=600)


def lease(service: ImaginedService, *, conditions: bool = True, times: LeaseTimes = TIMES) -> Lease:
    return Lease(SmallObjects(service), "lease", conditions=conditions, times=times)


@pytest.mark.parametrize("conditions", [True, False])
async def test_one_of_many_has_it(conditions: bool) -> None:
    """The others are told so at once, or have it afterwards."""
    service, held = ImaginedService(1), [0]

    async def collect(wait: bool) -> bool:
        async with lease(service, conditions=conditions, times=ALIVE).held(wait=wait) as mine:
            held[0] += mine
            assert held[0] <= 1
            await asyncio.sleep(0.1)
            held[0] -= mine
            return mine

    assert sum(await asyncio.gather(*(collect(False) for _ in range(5)))) == 1
    assert sum(await asyncio.gather(*(collect(True) for _ in range(3)))) == 3
    assert service.objects == {}


async def test_that_of_a_process_that_died_is_taken_over() -> None:
    """After nobody wrote it for a while."""
    service = ImaginedService(1)
    service.objects["lease"] = (b"of a process that was killed", 1.0)
    mine = lease(service)
    async with mine.held(wait=False) as first:
        assert not first
    async with mine.held(wait=True) as second:
        assert second
    assert service.objects == {}


async def test_whoever_waits_says_for_whom(caplog: pytest.LogCaptureFixture) -> None:
    """A collection that was killed holds the next one up, which nobody could tell from work."""
    service = ImaginedService(1)
    service.objects["lease"] = (b'{"host": "ci-1", "pid": 7, "word": "other"}', 1.0)
    async with lease(service).held(wait=True) as mine:
        assert mine
    whom = "process 7 on 'ci-1', which has begun one; for 0 s if it was killed"
    assert caplog.messages == [f"the collection waits for {whom}"]


async def test_one_whose_answers_are_lost_is_taken_and_renewed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody waits for himself, or takes his own lease for another's."""
    service = LosingService(1)
    async with lease(service).held(wait=False) as mine:
        assert mine
        await asyncio.sleep(10 * TIMES.renewed)
    assert not caplog.messages
    assert service.objects == {}
