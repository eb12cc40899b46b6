# SPDX-License-Identifier: Apache-2.0
"""Places for fetches: how many there are at once, and who waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from buildset_registry.errors import BlobUnknown, TooManyRequests, UpstreamFailed
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.pullthrough import FetchPlaces, PullThrough
from buildset_registry.registry import Registry
from buildset_registry.store.memory import MemoryStore
from buildset_registry.upstream.client import RemoteBlob
from buildset_registry.upstream.counters import UpstreamCounters

from tests.unit.pullthrough.reading import read
from tests.unit.upstream.lab import eventually

NAME = RepositoryName("quay.io/org/app")
CONTENTS = [b"blob %d" % number for number in range(300)]
BLOBS = [Digest.of(content) for content in CONTENTS]


class StallingClient:
    """Registries that have the blobs, and send each when it is let go."""

    def __init__(self) -> None:
        self.counters = UpstreamCounters()
        self.begun: list[int] = []
        self.gates = [asyncio.Event() for _content in CONTENTS]
        self.error: Exception | None = None

    def serves(self, name: RepositoryName) -> bool:
        return True

    @asynccontextmanager
    async def blob(
        self, name: RepositoryName, digest: Digest, offset: int, taken: Callable[[int], None]
    ) -> AsyncIterator[RemoteBlob]:
        number = BLOBS.index(digest)
        self.begun.append(number)
        await self.gates[number].wait()
        if self.error is not None:
            raise self.error

        async def chunks() -> AsyncIterator[bytes]:
            yield CONTENTS[number]

        yield RemoteBlob(len(CONTENTS[number]), chunks(), "quay.io")

    async def close(self) -> None:
        """Nothing is held."""


class LeftError(Exception):
    """The client has left."""


@dataclass
class Client:
    """Somebody who asks, until it leaves."""

    client: str
    left: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def watch(self) -> asyncio.Future[None]:
        return self.left

    def leave(self) -> None:
        self.left.set_exception(LeftError())


@dataclass
class Scene:
    """A registry, its upstream, and the requests to it that are under way."""

    upstream: StallingClient
    registry: Registry
    places: FetchPlaces
    asked: list[asyncio.Task[bytes]] = field(default_factory=list)

    def get(self, number: int, client: Client | None = None) -> asyncio.Task[bytes]:
        """Ask for a blob, for all of it."""

        async def whole() -> bytes:
            return bytes(await read(await self.registry.blob(NAME, BLOBS[number], asker=client)))

        self.asked.append(asyncio.create_task(whole()))
        return self.asked[-1]

    async def end(self) -> None:
        """Have all who ask leave."""
        for task in self.asked:
            task.cancel()
        await asyncio.gather(*self.asked, return_exceptions=True)

    async def begun(self, *numbers: int) -> None:
        """Wait until these, and no others, were asked for at upstream."""
        await eventually(lambda: len(self.upstream.begun) >= len(numbers))
        await settled()
        assert self.upstream.begun == [*numbers]

    def send(self, *numbers: int) -> None:
        for number in numbers:
            self.upstream.gates[number].set()


async def settled() -> None:
    """Let everything happen that waits for nothing."""
    for _round in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def scene(places: FetchPlaces | None = None) -> AsyncIterator[Scene]:
    store, upstream, places = MemoryStore(), StallingClient(), places or FetchPlaces()
    client: Any = upstream
    through = PullThrough(store, client, places=places)
    made = Scene(upstream, Registry(store, through), places)
    try:
        yield made
    finally:
        await made.end()
        await through.close()


async def test_clients_that_leave_start_no_more_fetches_than_there_may_be() -> None:
    """A fetch outlives its client: thousands would hold as many connections and files."""
    async with scene() as one:
        for number in range(300):
            one.get(number)
        await settled()
        await one.end()
        assert len(one.upstream.begun) == one.upstream.counters.downloads == 128
        one.send(*range(300))
        await eventually(lambda: not one.upstream.counters.downloads)
        assert len(one.upstream.begun) == 128


async def test_one_client_leaves_places_to_others() -> None:
    """Three quarters are for one; who leaves while it waits is no more, and starts nothing."""
    async with scene(FetchPlaces(4)) as one:
        greedy = Client("10.0.0.1")
        asked = [one.get(number, greedy) for number in range(10)]
        await one.begun(0, 1, 2)
        other = one.get(20, Client("10.0.0.2"))
        await one.begun(0, 1, 2, 20)
        one.send(20)
        assert await other == CONTENTS[20]
        greedy.leave()
        ended = await asyncio.gather(*asked[3:], return_exceptions=True)
        assert {type(error) for error in ended} == {LeftError}
        one.send(*range(10))
        assert await asyncio.gather(*asked[:3]) == CONTENTS[:3]
        await one.begun(0, 1, 2, 20)
        assert one.places.taken == 0


async def test_a_host_of_ipv6_is_one_client() -> None:
    """It has 64 bits of addresses for itself, and could come from another one for each fetch."""
    async with scene(FetchPlaces(4)) as one:
        for number in range(6):
            one.get(number, Client(f"2001:db8::{number:x}"))
        await one.begun(0, 1, 2)
        one.get(20, Client("2001:db8:0:1::1"))
        await one.begun(0, 1, 2, 20)


async def test_who_wants_what_is_on_its_way_needs_no_place() -> None:
    """Nor do those who wait for a place in order to fetch the same need one each."""
    async with scene(FetchPlaces(2)) as one:
        first = [one.get(0, Client(f"10.0.0.{number}")) for number in range(5)]
        await one.begun(0)
        second = one.get(1, Client("10.0.1.1"))
        await one.begun(0, 1)
        waiting = [one.get(2, Client(f"10.0.2.{number}")) for number in range(5)]
        await one.begun(0, 1)
        one.send(0)
        assert await asyncio.gather(*first) == [CONTENTS[0]] * 5
        await one.begun(0, 1, 2)
        assert one.places.taken == 2
        one.send(1, 2)
        assert await asyncio.gather(second, *waiting) == [CONTENTS[1], *[CONTENTS[2]] * 5]
        await settled()
        assert one.places.taken == 0


async def test_a_place_goes_first_to_whoever_has_fewest() -> None:
    """Not to the next of many requests of one client."""
    async with scene(FetchPlaces(4)) as one:
        greedy, other, late = (Client(f"10.0.0.{number}") for number in range(3))
        for number in range(2):
            one.get(number, greedy)
        for number in range(2, 4):
            one.get(number, other)
        await one.begun(0, 1, 2, 3)
        one.get(4, greedy)
        await settled()
        one.get(5, late)
        await settled()
        one.send(2)
        await one.begun(0, 1, 2, 3, 5)
        one.send(3)
        await one.begun(0, 1, 2, 3, 5, 4)


@pytest.mark.parametrize("error", [BlobUnknown(), UpstreamFailed("no"), None])
async def test_a_place_is_free_when_its_fetch_ends(error: Exception | None) -> None:
    """However it ends."""
    async with scene(FetchPlaces(1)) as one:
        one.upstream.error = error
        asked = one.get(0)
        await one.begun(0)
        after = one.get(1)
        one.send(0)
        await asyncio.gather(asked, return_exceptions=True)
        await one.begun(0, 1)
        one.send(1)
        await asyncio.gather(after, return_exceptions=True)
        await settled()
        assert one.places.taken == 0


async def test_a_place_is_free_when_fetches_are_stopped() -> None:
    """By the end of the process; nothing else begins then."""
    async with scene(FetchPlaces(1)) as one:
        asked = [one.get(0), one.get(1)]
        await one.begun(0)
        await one.places.close()
        for task in asked:
            with pytest.raises(UpstreamFailed, match="stopped; try again"):
                await task
        await one.begun(0)
        assert one.places.taken == 0


async def test_who_waits_too_long_is_told_to_come_again() -> None:
    """By the limit that there is, all of it or one client's."""
    async with scene(FetchPlaces(4, 0.01)) as one:
        greedy = Client("10.0.0.1")
        for number in range(3):
            one.get(number, greedy)
        await one.begun(0, 1, 2)
        own = r"3 blobs are being.*limits\.fetches allows to one client, 10\.0\.0\.1; try again"
        with pytest.raises(TooManyRequests, match=own) as refused:
            await one.get(3, greedy)
        assert refused.value.headers == {"Retry-After": "5"}
        one.get(4, Client("10.0.0.2"))
        await one.begun(0, 1, 2, 4)
        with pytest.raises(TooManyRequests, match=r"4 blobs are being.*fetches allows; try again"):
            await one.get(5, Client("10.0.0.3"))
        assert one.places.taken == 4


@pytest.mark.parametrize("cancelled", [True, False])
async def test_who_leaves_as_it_is_given_a_place_gives_it_back(*, cancelled: bool) -> None:
    """The next one has it."""
    places, leaving = FetchPlaces(1), Client("10.0.0.1")
    assert places.take("10.0.0.3")
    gone = asyncio.create_task(places.wait("a", leaving))
    stays = asyncio.create_task(places.wait("b", Client("10.0.0.2")))
    await settled()
    places.give_back("10.0.0.3")
    if cancelled:
        gone.cancel()
    else:
        leaving.leave()
    with pytest.raises(asyncio.CancelledError if cancelled else LeftError):
        await gone
    assert await stays
    assert places.taken == 1


async def test_a_limit_of_0_is_none() -> None:
    """Of one client, too."""
    async with scene(FetchPlaces(0)) as one:
        asked = [one.get(number, Client("10.0.0.1")) for number in range(300)]
        await one.begun(*range(300))
        one.send(*range(300))
        assert await asyncio.gather(*asked) == CONTENTS
