# SPDX-License-Identifier: Apache-2.0
"""Promises and removals of several processes, in every order that chance makes."""

import asyncio
import time
from collections.abc import Callable

import pytest
from buildset_registry.oci.digest import Digest
from buildset_registry.store.objects.blobs import BlobRules, ObjectBlobs
from buildset_registry.store.objects.clock import ServiceClock
from buildset_registry.store.objects.dialect import Body, ObjectFailure, ObjectState
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.promises import Promises
from buildset_registry.store.objects.small import SmallObjects
from buildset_registry.store.objects.staging import Staging

from tests.unit.store.objects.imagined import ImaginedService, LosingService

ONE = Digest.of(b"one")
KEYS = Keys()
ROUNDS = 300


def unstaged(service: ImaginedService) -> Staging:
    """Return what stages nothing."""
    return Staging(service, KEYS, SmallObjects(service), ServiceClock())


def process(service: ImaginedService) -> ObjectBlobs:
    """Return the blobs as a process has them, which remembers nothing of others."""
    return ObjectBlobs(service, KEYS, Promises(service, KEYS), unstaged(service), BlobRules())


async def push(service: ImaginedService) -> None:
    """Push a blob as a client does: where it is there, it is not sent."""
    blobs = process(service)
    if await blobs.keep(ONE) is None:
        await blobs.put(ONE, b"one")


def unconditioned(service: ImaginedService) -> ObjectBlobs:
    """Return the blobs as a process has them on a service that keeps no conditions."""
    promises = Promises(service, KEYS, conditions=False, listed=False)
    return ObjectBlobs(service, KEYS, promises, unstaged(service), BlobRules())


async def late(service: ImaginedService) -> None:
    """Wait for a while."""
    for _ in range(service.chance.randrange(30)):
        await asyncio.sleep(0)


async def push_late(service: ImaginedService) -> bool:
    await late(service)
    blobs = unconditioned(service)
    if await blobs.keep(ONE) is None:
        await blobs.put(ONE, b"one")
    return False


async def sweep_late(service: ImaginedService, began: float) -> bool:
    await late(service)
    try:
        return await unconditioned(service).sweep(ONE, began, began)
    except ObjectFailure:
        return False


@pytest.mark.parametrize("collectors", [1, 2])
async def test_without_conditions_what_a_client_was_told_is_there_stays(
    collectors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that collect at once condemn the same content: one of them finds the other's sentence.

    The one goes on and lifts its own sentence; the other one breaks off, and removes nothing.
    """
    monkeypatch.setattr("buildset_registry.store.objects.promises._PAUSE", 0)
    removed = 0
    for seed in range(ROUNDS):
        service = ImaginedService(seed)
        await unconditioned(service).put(ONE, b"one")
        began = service.now + 1
        pushes = [push_late(service) for _ in range(2)]
        sweeps = [sweep_late(service, began) for _ in range(collectors)]
        removed += any(await asyncio.gather(*pushes, *sweeps))
        assert KEYS.blob(ONE) in service.objects, seed
        assert KEYS.condemned(ONE) not in service.objects
    assert removed > ROUNDS / 20


@pytest.mark.parametrize("collectors", [1, 2])
async def test_what_a_client_was_told_is_there_stays(collectors: int) -> None:
    """However pushes and collections meet; and what nobody was promised goes."""
    removed = 0
    for seed in range(ROUNDS):
        service = ImaginedService(seed)
        chance = service.chance
        await process(service).put(ONE, b"one")
        began = service.now + 1
        tasks = [push(service) for _ in range(chance.randrange(4))]
        sweeps = [process(service).sweep(ONE, began, began) for _ in range(collectors)]
        everybody = [*map(asyncio.ensure_future, tasks), *map(asyncio.ensure_future, sweeps)]
        chance.shuffle(everybody)
        await asyncio.gather(*everybody)
        removed += any(one.result() for one in everybody)
        assert not tasks or KEYS.blob(ONE) in service.objects
        assert KEYS.condemned(ONE) not in service.objects
    assert removed > ROUNDS / 10


async def test_a_sentence_of_a_process_that_died_is_lifted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever brings content waits for it, and not for ever, whatever the service's clock says."""
    monkeypatch.setattr("buildset_registry.store.objects.promises._DEAD", 0.2)
    service = ImaginedService(1)
    service.objects[KEYS.condemned(ONE)] = (b"", 5000.0)
    blobs = process(service)
    assert await blobs.keep(ONE) is None
    given = set(service.objects)
    await blobs.put(ONE, b"one")
    promises = [key for key in service.objects if key.startswith(KEYS.promises(ONE))]
    assert len(set(promises) - given) == 1
    assert await process(service).keep(ONE) == 3


@pytest.mark.parametrize("blobs_of", [process, unconditioned])
async def test_a_sentence_that_stayed_hides_no_blob(
    blobs_of: Callable[[ImaginedService], ObjectBlobs],
) -> None:
    """Nobody lifted it, and who passed it is surely gone: by the service's own times."""
    service = ImaginedService(1)
    await service.put(KEYS.blob(ONE), Body(3, (b"one",)))
    service.objects[KEYS.condemned(ONE)] = (b"word", service.now)
    assert await blobs_of(service).keep(ONE) is None
    service.objects[KEYS.condemned(ONE)] = (b"word", 1.0)
    assert await blobs_of(service).keep(ONE) == 3


@pytest.mark.parametrize("blobs_of", [process, unconditioned])
async def test_a_sweep_that_is_cancelled_leaves_no_sentence(
    blobs_of: Callable[[ImaginedService], ObjectBlobs],
) -> None:
    """As soon as it is passed: whoever pushes the content would be told that it is not here."""
    cancelled = 0
    for seed in range(50):
        service = ImaginedService(seed)
        await service.put(KEYS.blob(ONE), Body(3, (b"one",)))
        sweep = asyncio.ensure_future(blobs_of(service).sweep(ONE, 2000.0, 2000.0))
        for _turn in range(20):
            await asyncio.sleep(0)
            if KEYS.condemned(ONE) in service.objects:
                break
        sweep.cancel()
        await asyncio.wait([sweep])
        cancelled += sweep.cancelled()
        assert KEYS.condemned(ONE) not in service.objects, seed
    assert cancelled > 25


async def test_a_sweep_that_is_cancelled_lifts_no_sentence_of_another() -> None:
    """It was about to find that somebody else has condemned the content."""
    for seed in range(50):
        service = ImaginedService(seed)
        await service.put(KEYS.blob(ONE), Body(3, (b"one",)))
        service.objects[KEYS.condemned(ONE)] = (b"word", time.time())
        sweep = asyncio.ensure_future(process(service).sweep(ONE, 2000.0, 2000.0))
        for _turn in range(seed % 10):
            await asyncio.sleep(0)
        sweep.cancel()
        await asyncio.wait([sweep])
        assert KEYS.condemned(ONE) in service.objects, seed


class Meeting(ImaginedService):
    """A service by which a blob is brought while it is removed.

    Whether it is condemned is answered to who brings it when the removal is over.
    """

    def __init__(self, bring: Callable[[ImaginedService], ObjectBlobs]) -> None:
        super().__init__(1)
        self._bring = bring
        self._asked, self.over = asyncio.Event(), asyncio.Event()
        self.bringing: asyncio.Task[None] | None = None

    async def head(self, key: str) -> ObjectState | None:
        if key == KEYS.condemned(ONE) and asyncio.current_task() is self.bringing:
            self._asked.set()
            await self.over.wait()
        return await super().head(key)

    async def delete(self, key: str, *, plain: bool = False) -> None:
        await super().delete(key, plain=plain)
        if key == KEYS.blob(ONE):
            self.bringing = asyncio.ensure_future(self._bring(self).put(ONE, b"one"))
            await self._asked.wait()


@pytest.mark.parametrize("blobs_of", [process, unconditioned])
async def test_what_is_brought_while_it_is_removed_is_promised_in_the_end(
    blobs_of: Callable[[ImaginedService], ObjectBlobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever removes the promises of what is gone leaves those that came since."""
    monkeypatch.setattr("buildset_registry.store.objects.promises._PAUSE", 0)
    service = Meeting(blobs_of)
    await service.put(KEYS.blob(ONE), Body(3, (b"one",)))
    assert await blobs_of(service).sweep(ONE, 2000.0, 2000.0)
    service.over.set()
    assert service.bringing
    await service.bringing
    assert KEYS.blob(ONE) in service.objects
    assert [key for key in service.objects if key.startswith(KEYS.promises(ONE))]
    assert KEYS.condemned(ONE) not in service.objects


async def test_the_promises_of_what_is_removed_go_with_it() -> None:
    """Those that were found when it was condemned."""
    service = ImaginedService(1)
    await process(service).put(ONE, b"one")
    assert await process(service).sweep(ONE, 2000.0, 2000.0)
    assert service.objects == {}


async def test_a_sentence_that_stayed_keeps_no_collection_from_the_other_promises() -> None:
    """Who discarded a promise was killed in it; where all have one key, that is condemned first."""
    service, two = ImaginedService(1), Digest.of(b"two")
    for digest, content in ((ONE, b"one"), (two, b"two")):
        await unconditioned(service).put(digest, content)
    service.objects[KEYS.condemned(ONE)] = (b"word", service.now)
    promises = Promises(service, KEYS, conditions=False, listed=False)
    names = [name for digest in (ONE, two) for name in (await promises.of(digest))[1]]
    await promises.discard(names, service.now + 1)
    assert [len((await promises.of(digest))[1]) for digest in (ONE, two)] == [1, 0]


async def test_a_promise_that_is_given_again_stays() -> None:
    """Where all promises have one key, an old one is removed while the next one is given."""
    told = discarded = 0
    old, new = 1500.0, 2000.0
    for seed in range(ROUNDS):
        service = ImaginedService(seed)

        def process(service: ImaginedService = service) -> ObjectBlobs:
            promises = Promises(service, KEYS, conditions=False, listed=False)
            rules = BlobRules(kept=time.time() - old)
            return ObjectBlobs(service, KEYS, promises, unstaged(service), rules)

        await process().put(ONE, b"one")
        service.now = new

        async def walk(blobs: ObjectBlobs) -> None:
            _ = [state async for states in blobs.walk(tidy=True) for state in states]

        async def keep(service: ImaginedService = service) -> int | None:
            await late(service)
            return await process().keep(ONE)

        size, _walked = await asyncio.gather(keep(), walk(process()))
        told += size is not None
        discarded += size is None
        await process().sweep(ONE, old, old)
        assert size is None or KEYS.blob(ONE) in service.objects
    assert told > ROUNDS / 10
    assert discarded


class Stalling(ImaginedService):
    """A service that never answers whether it removed a blob."""

    async def delete(self, key: str, *, plain: bool = False) -> None:
        if key == KEYS.blob(ONE):
            await asyncio.sleep(60)
        await super().delete(key, plain=plain)


async def test_a_removal_that_takes_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever brings the content waits some time only, and nothing removes what was brought."""
    monkeypatch.setattr("buildset_registry.store.objects.promises._DONE", 0.2)
    service = Stalling(1)
    await service.put(KEYS.blob(ONE), Body(3, (b"one",)))
    with pytest.raises(ObjectFailure, match="too long"):
        await asyncio.wait_for(process(service).sweep(ONE, 2000.0, 2000.0), 60)
    assert KEYS.condemned(ONE) not in service.objects


async def test_a_sentence_whose_answer_was_lost_is_ones_own() -> None:
    """It is carried out, and lifted afterwards: nobody else would for an hour."""
    service = LosingService(1)
    await service.put(KEYS.blob(ONE), Body(3, (b"one",)))
    assert await process(service).sweep(ONE, 2000.0, 2000.0)
    assert service.objects == {}
