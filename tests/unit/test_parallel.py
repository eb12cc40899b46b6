# SPDX-License-Identifier: Apache-2.0
"""Of several things at once none goes on after who asked was answered."""

import asyncio
import gc
import weakref

import pytest
from buildset_registry.parallel import all_of, to_its_end, together


class Work:
    """Takes long, and knows whether it has ended."""

    def __init__(self) -> None:
        self.began = self.ended = False

    async def do(self, seconds: float = 0.05) -> str:
        self.began = True
        try:
            await asyncio.sleep(seconds)
            return "done"
        finally:
            await asyncio.sleep(0.01)
            self.ended = True


async def _fails() -> int:
    raise OSError("why")


async def test_a_failure_is_told_when_all_have_ended() -> None:
    """Whichever fails, and what was done is returned in its order otherwise."""
    for number in range(2):
        work = Work()
        with pytest.raises(OSError, match="why"):
            await (all_of(_fails(), work.do()) if number else all_of(work.do(), _fails()))
        assert work.ended
    assert await all_of(Work().do(), asyncio.sleep(0, 7), asyncio.sleep(0)) == ("done", 7, None)


async def test_the_rest_of_many_is_cancelled_and_has_ended() -> None:
    """Whether one fails or nobody waits any more."""
    works = [Work() for _number in range(5)]

    async def one(work: Work) -> str:
        if work is works[1]:
            raise OSError("why")
        return await work.do(60)

    with pytest.raises(OSError, match="why"):
        await together(works, one, 3)
    assert [work.began for work in works] == [work.ended for work in works]
    assert works[0].ended


async def test_who_is_cancelled_leaves_nothing_behind() -> None:
    """As a request whose client has gone."""
    one, two = Work(), Work()
    asking = asyncio.ensure_future(all_of(one.do(60), two.do(60)))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert one.ended and two.ended


async def test_an_error_keeps_nothing_alive() -> None:
    """A registry goes by what is still referred to, and waits for no collection of cycles."""

    async def ask(_upload: Work) -> None:
        await all_of(_fails(), asyncio.sleep(0))

    upload = Work()
    known = weakref.ref(upload)
    gc.disable()
    try:
        with pytest.raises(OSError, match="why"):
            await ask(upload)
        del upload
        await asyncio.sleep(0)
        assert known() is None
    finally:
        gc.enable()


async def test_what_is_not_to_be_broken_off_ends_before_who_was_cancelled() -> None:
    """However often, and whatever becomes of it; its failure is told with that."""
    work = Work()
    asking = asyncio.ensure_future(to_its_end(work.do(0.05)))
    for _time in range(3):
        await asyncio.sleep(0.005)
        asking.cancel()
    with pytest.raises(asyncio.CancelledError) as told:
        await asking
    assert work.ended and told.value.__cause__ is None
    assert await to_its_end(Work().do()) == "done"
    with pytest.raises(OSError, match="why"):
        await to_its_end(_fails())
    failing = asyncio.ensure_future(to_its_end(_fails()))
    await asyncio.sleep(0)
    failing.cancel()
    with pytest.raises(asyncio.CancelledError) as told:
        await failing
    assert isinstance(told.value.__cause__, OSError)


async def test_what_takes_too_long_is_broken_off_after_who_was_cancelled() -> None:
    """Not before; it has ended all the same."""
    work = Work()
    # Longer by far than the work takes to end, which is broken off again after as long.
    asking = asyncio.ensure_future(to_its_end(work.do(60), 0.1))
    await asyncio.sleep(0.15)
    assert not work.ended
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert work.ended
