# SPDX-License-Identifier: Apache-2.0
"""Work that is shared by whoever asks for it while it is under way."""

import asyncio
import gc

import pytest
from buildset_registry.pullthrough.singleflight import SingleFlight


class Work:
    """Counts how often it is started; ends when told."""

    def __init__(self) -> None:
        self.started = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.started += 1
        await self.gate.wait()
        if self.error:
            raise self.error
        return self.started


async def waiting(
    flight: SingleFlight[str, int], work: Work, number: int
) -> list[asyncio.Task[int]]:
    """Let so many ask for the same."""
    tasks = [asyncio.create_task(flight.join("key", work)) for _ in range(number)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_all_who_wait_share_one_answer() -> None:
    """And who comes afterwards starts anew."""
    flight, work = SingleFlight[str, int](), Work()
    tasks = await waiting(flight, work, 10)
    work.gate.set()
    assert await asyncio.gather(*tasks) == [1] * 10
    assert await flight.join("key", work) == 2


async def test_all_who_wait_share_one_failure() -> None:
    """A failure is not kept: who comes afterwards starts anew."""
    flight, work = SingleFlight[str, int](), Work()
    work.error = OSError("no")
    tasks = await waiting(flight, work, 3)
    work.gate.set()
    assert [str(one) for one in await asyncio.gather(*tasks, return_exceptions=True)] == ["no"] * 3
    with pytest.raises(OSError, match="no"):
        await flight.join("key", work)
    assert work.started == 2


async def test_who_leaves_takes_nobody_along() -> None:
    """The work goes on; its failure after all have left is nobody's, and no noise."""
    noise = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    flight, work = SingleFlight[str, int](), Work()
    first, second = await waiting(flight, work, 2)
    first.cancel()
    await asyncio.sleep(0)
    assert not second.done()
    second.cancel()
    work.error = OSError("too late")
    work.gate.set()
    await asyncio.gather(first, second, return_exceptions=True)
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert noise == []


async def test_work_that_ends_later_than_its_successor_began() -> None:
    """What has ended is forgotten without what has begun since."""
    flight, old, new = SingleFlight[str, int](), Work(), Work()
    old.gate.set()
    ended = flight.begin("key", old)
    await asyncio.sleep(0)
    begun = flight.begin("key", new)
    assert await ended == 1
    await asyncio.sleep(0)
    joined = asyncio.create_task(flight.join("key", old))
    new.gate.set()
    assert (await joined, await begun, old.started) == (1, 1, 1)


async def test_a_defect_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback, since nobody may be there to hear of it."""
    flight, work = SingleFlight[str, int](), Work()
    work.error = ValueError("a defect")
    work.gate.set()
    task = flight.begin("key", work)
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert "work for key failed" in caplog.text
    assert "ValueError: a defect" in caplog.text


async def test_closing_stops_what_is_under_way() -> None:
    """Nothing runs afterwards."""
    flight, work = SingleFlight[str, int](), Work()
    (task,) = await waiting(flight, work, 1)
    await flight.close()
    with pytest.raises(asyncio.CancelledError):
        await task
