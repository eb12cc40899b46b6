# SPDX-License-Identifier: Apache-2.0
"""Work that is spread over what may wait at once."""

import asyncio

import pytest
from buildset_registry.pacing import AT_ONCE, spread


async def test_many_things_are_done_some_at_once() -> None:
    """Each of them once, however many there are, and never more than so many at a time."""
    running = most = 0
    done = []

    async def work(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done.append(item)

    await spread(range(1000), work)
    assert sorted(done) == list(range(1000))
    assert most == AT_ONCE
    await spread([], work)


async def test_the_first_failure_ends_the_rest() -> None:
    """Nothing goes on behind it."""
    begun, ended = [], []

    async def work(item: int) -> None:
        begun.append(item)
        await asyncio.sleep(0)
        if item == 3:
            raise OSError
        await asyncio.Event().wait()
        ended.append(item)

    with pytest.raises(OSError):
        await spread(range(1000), work)
    assert len(begun) == AT_ONCE
    assert ended == []
    assert len(asyncio.all_tasks()) == 1


async def test_others_have_their_turn_beside_work_that_never_waits() -> None:
    """As the links of a folder: the event loop is not held until all of it is done."""
    seen = []

    async def work(item: int) -> None:
        seen.append(item)

    task = asyncio.ensure_future(spread(range(10_000), work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 < len(seen) < 10_000
    await task
