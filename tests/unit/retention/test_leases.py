# SPDX-License-Identifier: Apache-2.0
"""Leases of images: how long they hold, how little they leave, and what a failing store does."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.config import Config, Endpoints
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.registry import Registry
from buildset_registry.retention.leases import TOPIC, Leases
from buildset_registry.store import open_store
from buildset_registry.store.base import Store

from tests.unit.gc.images import NAME, OTHER, digest_of, push_image

HOUR = 3600.0


@pytest.fixture(params=["filesystem", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """The kinds that need no server."""
    storage = tmp_path if request.param == "filesystem" else request.param
    async with aclosing(await open_store(Config(endpoints=Endpoints(), storage=storage))) as opened:
        yield opened


class Clock:
    """A time that a test chooses, on the hour."""

    def __init__(self) -> None:
        self.now = time.time() // HOUR * HOUR

    def __call__(self) -> float:
        return self.now

    def age(self, stamp: float) -> float:
        """Return how long ago something was, in a registry that always ran."""
        return max(0.0, self.now - stamp)


async def test_an_image_is_leased_until_its_token_ends(store: Store) -> None:
    """By its digest or its tag, rounded up to the hour; nothing else of the repository is."""
    image = digest_of(await push_image(Registry(store), "v1", "v2"))
    clock = Clock()
    leases = Leases(store, clock)
    await leases.take([(NAME, image), (NAME, Tag("v1"))], HOUR + 1)
    for told in (leases, Leases(store, clock)):
        active = await told.active(clock.age)
        assert active.until(NAME, image) == active.until(NAME, Tag("v1")) == clock.now + 2 * HOUR
        assert not active.until(NAME, Tag("v2"))
        assert not active.until(OTHER, image)
    clock.now += 2 * HOUR - 1
    assert await leases.active(clock.age)
    clock.now += 1
    assert not await leases.active(clock.age)


async def test_what_is_not_there_is_not_leased(store: Store) -> None:
    """So nobody fills a store by naming images."""
    await push_image(Registry(store), "v1")
    leases = Leases(store)
    nothing = Digest.of(b"nothing")
    await leases.take([(NAME, nothing), (NAME, Tag("v9")), (OTHER, Tag("v1"))], HOUR)
    assert await store.documents(TOPIC).names() == []
    assert not await leases.active(Clock().age)


async def test_a_client_that_asks_in_a_loop_leaves_one_document_for_each_image(
    store: Store,
) -> None:
    """At two replicas, for a day; what is over is forgotten."""
    image = digest_of(await push_image(Registry(store), "v1"))
    clock, documents = Clock(), store.documents(TOPIC)
    replicas = [Leases(store, clock) for _number in range(2)]
    for asked in range(24 * 6):
        await replicas[asked % 2].take([(NAME, image)], 24 * HOUR)
        assert len(await documents.names()) <= 2
        clock.now += 600
    active = await replicas[0].active(clock.age)
    await replicas[0].prune(clock.age)
    assert len(await documents.names()) == 1
    assert (await Leases(store).active(clock.age)).until(NAME, image) == active.until(NAME, image)
    clock.now += 26 * HOUR
    await replicas[1].prune(clock.age)
    assert await documents.names() == []
    await replicas[0].take([(NAME, image)], HOUR)
    assert len(await documents.names()) == 1


async def test_a_short_token_shortens_no_lease(store: Store) -> None:
    """The latest end counts, whichever was asked for last, and wherever."""
    image = digest_of(await push_image(Registry(store), "v1"))
    clock = Clock()
    for seconds in (5 * HOUR, HOUR, 3 * HOUR):
        await Leases(store, clock).take([(NAME, image)], seconds)
    leases = Leases(store, clock)
    await leases.prune(clock.age)
    assert (await leases.active(clock.age)).until(NAME, image) == clock.now + 5 * HOUR
    at_once = (leases.take([(NAME, Tag("v1"))], hours * HOUR) for hours in (1, 6, 2))
    await asyncio.gather(*at_once)
    active = await Leases(store).active(clock.age)
    assert active.until(NAME, Tag("v1")) == clock.now + 6 * HOUR


async def test_names_of_one_image_of_docker_hub_are_one(store: Store) -> None:
    """It is leased where it was pushed."""
    short, long = RepositoryName("app"), RepositoryName("library/app")
    image = digest_of(await push_image(Registry(store), "v1", name=short))
    leases = Leases(store)
    await leases.take([(long, image)], HOUR)
    active = await leases.active(Clock().age)
    assert active.until(short, image)
    assert not active.until(long, image)


async def test_other_documents_are_none_of_its_business(store: Store) -> None:
    """What another release may keep there."""
    await store.documents(TOPIC).write("others", b"")
    leases = Leases(store)
    assert not await leases.active(Clock().age)
    await leases.prune(Clock().age)
    assert await store.documents(TOPIC).names() == ["others"]


async def test_a_full_disk_keeps_nobody_from_a_token(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """This process knows the lease, says so once, and writes it when there is room again."""
    image = digest_of(await push_image(Registry(store), "v1"))
    leases = Leases(store)

    async def fail(*_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
        patched.setattr(type(store.documents(TOPIC)), "write", fail)
        for _time in range(3):
            await leases.take([(NAME, image), (NAME, Tag("v1"))], HOUR)
    assert [one.message for one in caplog.records] == [
        "leases of images cannot be written: [Errno 28] No space left on device; tokens go on"
    ]
    age = Clock().age
    assert (await leases.active(age)).until(NAME, image)
    assert not await Leases(store).active(age)
    await leases.close()
    written = await Leases(store).active(age)
    assert written.until(NAME, image)
    assert written.until(NAME, Tag("v1"))


async def test_a_store_that_hangs_does_not_hang_tokens(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is written when the store answers again."""
    image = digest_of(await push_image(Registry(store), "v1"))
    leases, answers = Leases(store), asyncio.Event()
    kind = type(store.documents(TOPIC))
    write = kind.write

    async def wait(*arguments: Any) -> None:
        await answers.wait()
        await write(*arguments)

    monkeypatch.setattr(kind, "write", wait)
    with monkeypatch.context() as patched:
        patched.setattr("buildset_registry.retention.leases._PATIENCE", 0.01)
        await leases.take([(NAME, image)], HOUR)
    assert await store.documents(TOPIC).names() == []
    assert (await leases.active(Clock().age)).until(NAME, image)
    answers.set()
    await leases.close()
    assert len(await store.documents(TOPIC).names()) == 1
    answers.clear()
    monkeypatch.setattr("buildset_registry.retention.leases._PATIENCE", 0.01)
    await leases.take([(NAME, Tag("v1"))], HOUR)
    await leases.close()
    assert len(await store.documents(TOPIC).names()) == 1


async def test_leases_for_which_there_is_no_room_are_told(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One client may name images without end where the store is slow; then others' go missing."""
    image = digest_of(await push_image(Registry(store), "v1"))
    leases, answers = Leases(store), asyncio.Event()
    kind = type(store.pushed(NAME).tags)
    get = kind.get

    async def slow(*arguments: Any) -> Any:
        await answers.wait()
        return await get(*arguments)

    monkeypatch.setattr(kind, "get", slow)
    monkeypatch.setattr("buildset_registry.retention.leases._PATIENCE", 0.01)
    monkeypatch.setattr("buildset_registry.retention.leases._MOST", 30)
    await leases.take([(NAME, Tag(f"none{number}")) for number in range(30)], HOUR)
    assert caplog.messages == []
    for _again in range(2):
        await leases.take([(NAME, image)], HOUR)
    (line,) = caplog.messages
    assert line.startswith("30 leases of images wait for the storage already: what further tokens")
    answers.set()
    monkeypatch.setattr("buildset_registry.retention.leases._PATIENCE", 5.0)
    await leases.close()
    await leases.take([(NAME, image)], HOUR)
    assert (await leases.active(Clock().age)).until(NAME, image)
    assert len(caplog.messages) == 1
