# SPDX-License-Identifier: Apache-2.0
"""Leased images in collections: what tokens name stays as a whole, and not for longer."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from copy import copy
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.errors import ManifestUnknown
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Reference, Tag
from buildset_registry.registry import Registry
from buildset_registry.retention.leases import TOPIC, LeasedImages
from buildset_registry.retention.timeline import minute
from buildset_registry.store.base import Store
from buildset_registry.store.filesystem.store import FilesystemStore
from buildset_registry.store.objects.promises import Condemnation
from buildset_registry.verify import verify

from tests.stores.fixtures import ObjectStores
from tests.unit.gc.aging import DAY, Aging, reasons, tags_removed
from tests.unit.gc.images import (
    NAME,
    Described,
    digest_of,
    is_whole,
    push_image,
    push_index,
    silent,
)
from tests.unit.retention.ages import rule
from tests.unit.retention.test_quotas import quota
from tests.unit.store.kinds import CONFIGURED, opened, replicas_of

HOUR = 3600.0
OLD = rule(pushed_within=1)


@pytest.fixture(params=["filesystem", "memory", "s3-minio"])
async def each_store(
    request: pytest.FixtureRequest, tmp_path: Path, object_stores: ObjectStores
) -> AsyncIterator[Store]:
    """Documents are files, in memory, and objects."""
    async with opened(request.param, tmp_path, object_stores) as made:
        yield made


@pytest.fixture
async def replicas(tmp_path: Path, object_stores: ObjectStores) -> AsyncIterator[list[Store]]:
    """Four processes' views of one bucket."""
    config = CONFIGURED["s3-minio"](tmp_path, object_stores)
    async with replicas_of(config, 4) as opened_by_each:
        yield opened_by_each


class Signed:
    """An index of two images, of which one is signed, and nothing else."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def push(self, *tags: str) -> Signed:
        """Push all of it."""
        self.children = [
            await push_image(self._registry, layers=(layer,)) for layer in (b"amd64", b"arm64")
        ]
        self.index = await push_index(self._registry, *tags, children=self.children)
        self.signature = await push_image(
            self._registry, layers=(b"signature",), subject=self.children[0]
        )
        return self

    def at(self, store: Store) -> Signed:
        """Return the same, as it is found in a store."""
        other = copy(self)
        other._registry = Registry(store)
        return other

    async def is_whole(self) -> bool:
        """Tell whether it can be pulled, with everything in it."""
        try:
            await self._registry.manifest(NAME, digest_of(self.index))
        except ManifestUnknown:
            return False
        parts = [*self.children, self.signature]
        return all([await is_whole(self._registry, NAME, one) for one in parts])


def past(store: Store, *more: Any, **changes: Any) -> Aging:
    """Return a collection by which whatever was pushed went long ago, but for leases."""
    return Aging(store, [OLD], *more, **changes)


@pytest.mark.parametrize("named", ["tag", "index", "child", "signature"])
async def test_a_leased_image_stays_as_a_whole_until_the_lease_ends(
    local_store: Store, named: str
) -> None:
    """Whichever part of it a token names, and a dry run says until when."""
    registry = Registry(local_store)
    image = await Signed(registry).push("old", "same")
    await push_image(registry, "gone", layers=(b"gone",))
    aging = await past(local_store).has_always_run()
    references: dict[str, Reference] = {
        "tag": Tag("old"),
        "index": digest_of(image.index),
        "child": digest_of(image.children[1]),
        "signature": digest_of(image.signature),
    }
    await aging.leases.take([(NAME, references[named])], 10 * HOUR)
    until = -(-(aging.now + 10 * HOUR) // HOUR) * HOUR
    told = await aging.run(dry_run=True)
    assert reasons(told)["old"] == f"a token: leased until {minute(until)}"
    assert tags_removed(told) == tags_removed(await aging.run()) == ["gone"]
    assert await image.is_whole()
    for _hour in range(11):
        aging.now += HOUR
        await aging.retention.clock.sign()
    assert tags_removed(await aging.run()) == ["old", "same"]
    assert not await image.is_whole()
    assert await local_store.documents(TOPIC).names() == []


async def test_every_store_keeps_leases_over_a_restart(each_store: Store, tmp_path: Path) -> None:
    """A lease is taken, and another process collects, long after the image was used."""
    registry = Registry(each_store)
    image = await Signed(registry).push("old")
    await push_image(registry, "gone", layers=(b"gone",))
    await asyncio.sleep(1.1)  # times of objects are in whole seconds
    first = await past(each_store).has_always_run()
    await first.leases.take([(NAME, digest_of(image.index))], 10 * HOUR)
    second = past(each_store, now=first.now)
    assert tags_removed(await second.run()) == ["gone"]
    assert await image.is_whole()
    second.now += 12 * HOUR
    assert tags_removed(await second.run()) == ["old"]
    assert not await image.is_whole()


async def test_a_soft_quota_takes_no_leased_image(local_store: Store) -> None:
    """The longest unused that is not leased goes in its place."""
    registry = Registry(local_store)
    for tag in ("first", "second", "third"):
        image = await push_image(registry, tag, layers=(tag.ljust(6).encode() * 1000,))
        await asyncio.sleep(0.02)
    aging = await Aging(local_store, [], [quota("org", soft=15_000)]).has_always_run()
    assert image
    await aging.leases.take([(NAME, Tag("first"))], HOUR)
    told = await aging.run(dry_run=True)
    assert reasons(told)["first"].startswith("a token: leased until ")
    assert tags_removed(told) == tags_removed(await aging.run()) == ["second"]


async def test_requests_do_not_wait_while_a_repository_is_searched_for_leases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 100,000 tags that takes a third of a second, in each pass: it is done in threads."""
    async with aclosing(FilesystemStore(tmp_path)) as store:
        registry = Registry(store)
        for tag in ("gone", "leased"):
            image = await push_image(registry, tag, layers=(tag.encode(),))
        await push_image(registry, layers=(b"untagged",), subject=image)
        aging = await past(store, [quota("org", soft=15_000)]).has_always_run()
        await aging.leases.take([(NAME, Tag("leased"))], HOUR)
        search, threads = LeasedImages.of, []

        def noted(leased: LeasedImages, *given: Any) -> dict[Digest, float]:
            threads.append(threading.current_thread())
            return search(leased, *given)

        monkeypatch.setattr(LeasedImages, "of", noted)
        assert tags_removed(await aging.run()) == ["gone"]
    assert len(threads) == 4
    assert threading.main_thread() not in threads


async def test_an_image_that_lost_its_tags_stays_while_it_is_leased(local_store: Store) -> None:
    """By ``gc.untagged``, also where there are no rules; and by a removal that broke off."""
    registry = Registry(local_store)
    image = await Signed(registry).push("v1")
    await push_image(registry, "v1", layers=(b"newer",))
    aging = Aging(local_store, now=time.time())
    await aging.leases.take([(NAME, digest_of(image.index))], HOUR)
    assert not (await aging.run(untagged=-1000.0, retention=None)).count("manifest")
    assert await image.is_whole()
    late = await past(local_store).has_always_run()
    await late.leases.take([(NAME, digest_of(image.index))], HOUR)
    known = await late.retention.removals.of(NAME)
    known.unfinished = {digest_of(image.index)}
    await late.retention.removals.write(NAME, known)
    await late.run()
    assert await image.is_whole()
    late.now += 2 * HOUR
    await late.run()
    assert not await image.is_whole()


async def test_a_user_may_delete_what_is_leased(local_store: Store) -> None:
    """A lease holds off the collector, and nobody else."""
    registry = Registry(local_store)
    image = await push_image(registry, "v1")
    aging = await past(local_store).has_always_run()
    await aging.leases.take([(NAME, digest_of(image))], HOUR)
    await registry.delete_manifest(NAME, digest_of(image))
    report = await aging.run()
    assert report.blobs == 3
    assert not await is_whole(registry, NAME, image)


@pytest.mark.parametrize("years", [1, -1])
async def test_a_clock_a_year_off_ends_no_lease(local_store: Store, years: int) -> None:
    """It lasts for as long as the registry runs; also with rules that would not wait."""
    registry = Registry(local_store)
    image = await Signed(registry).push("old")
    aging = await past(local_store).has_always_run()
    await aging.leases.take([(NAME, digest_of(image.index))], 20 * HOUR)
    aging.now += years * 365 * DAY
    for _hour in range(19):
        aging.now += HOUR
        await aging.run()
    assert await image.is_whole()


async def test_where_leases_cannot_be_read_nothing_is_removed(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collection breaks off, and is tried again."""
    registry = Registry(local_store)
    image = await push_image(registry, "old")
    aging = await past(local_store).has_always_run()

    async def fail(*_arguments: Any) -> list[str]:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(type(local_store.documents(TOPIC)), "names", fail)
        with pytest.raises(OSError, match="Input/output"):
            await aging.run()
    assert await is_whole(registry, NAME, image)
    assert tags_removed(await aging.run()) == ["old"]


async def test_where_leases_cannot_be_read_after_tags_went_these_come_back(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them may be leased by now: who cannot know it removes nothing."""
    registry = Registry(local_store)
    image = await Signed(registry).push("old")
    aging = await past(local_store).has_always_run()
    index = local_store.pushed(NAME)
    documents = type(local_store.documents(TOPIC))
    expire, names = type(index.tags).expire, documents.names

    async def then_fail(*arguments: Any) -> bool:
        monkeypatch.setattr(documents, "names", fail)
        return await expire(*arguments)

    async def fail(*_arguments: Any) -> list[str]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(type(index.tags), "expire", then_fail)
    report = await aging.run()
    monkeypatch.setattr(documents, "names", names)
    monkeypatch.setattr(type(index.tags), "expire", expire)
    assert any("broke off: Input/output error" in note for note in report.attention)
    assert report.incomplete
    target = await index.tags.get(Tag("old"))
    assert target
    assert target.digest == digest_of(image.index)
    assert await image.is_whole()
    assert tags_removed(await aging.run()) == ["old"]


@pytest.mark.parametrize("broken", ["fails", "is cancelled"])
async def test_a_leased_tag_comes_back_where_the_removal_of_another_one_breaks_off(
    local_store: Store, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """It went beside that, and a token was given for it since the collection began."""
    registry = Registry(local_store)
    image = await Signed(registry).push("old")
    await push_image(registry, "other", layers=(b"other",))
    aging = await past(local_store).has_always_run()
    tags = local_store.pushed(NAME).tags
    expire, gone = type(tags).expire, asyncio.Event()

    async def breaking(self: Any, tag: Tag, *given: Any) -> bool:
        if tag == "old":
            await aging.leases.take([(NAME, tag)], HOUR)
            assert await expire(self, tag, *given)
            gone.set()
            return True
        await gone.wait()
        if broken == "is cancelled":
            running.cancel()
            await asyncio.sleep(60)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(type(tags), "expire", breaking)
    running = asyncio.ensure_future(aging.run())
    await asyncio.wait([running])
    assert gone.is_set()
    assert running.cancelled() is (broken == "is cancelled")
    target = await tags.get(Tag("old"))
    assert target
    assert target.digest == digest_of(image.index)
    assert await image.is_whole()


#: The steps of a removal by another replica at which a token is asked for.
_STEPS = {
    "before it is written down": ("removals", "write", False),
    "before its tag goes": ("tags", "expire", False),
    "after its tag went": ("tags", "expire", True),
    "before the index goes": ("manifests", "expire", False),
    "after the index went": ("manifests", "expire", True),
    "before blobs go": ("blobs", "sweep", False),
}


@pytest.mark.parametrize("moment", _STEPS)
async def test_a_lease_that_another_replica_takes_in_the_middle_of_a_removal(
    replicas: list[Store], tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image is whole, with its tag, or gone before the token is there; never a part of it."""
    pushing, collecting, serving, fresh = replicas
    image = await Signed(Registry(pushing)).push("old")
    await asyncio.sleep(1.1)  # times of objects are in whole seconds
    aging = await past(collecting).has_always_run()
    of_what, name, after = _STEPS[moment]
    of: dict[str, object] = {
        "removals": aging.retention.removals,
        "tags": collecting.pushed(NAME).tags,
        "manifests": collecting.pushed(NAME).manifests,
        "blobs": collecting.blobs,
    }
    steps = Taking(0, past(serving, now=aging.now), image.index, after=after)
    with monkeypatch.context() as patched:
        kind = type(of[of_what])
        patched.setattr(kind, name, steps.beside(getattr(kind, name)))
        await aging.run()
    await steps.check(fresh, image)
    later = past(fresh, now=aging.now + 2 * HOUR)
    await later.run()
    assert [state.digest for state in await fresh.pushed(NAME).manifests.all()] == []


async def test_a_lease_of_what_another_replica_has_condemned(
    replicas: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing stops that removal any more: the token is handed out when it is done."""
    pushing, collecting, serving, fresh = replicas
    image = await Signed(Registry(pushing)).push("old")
    await asyncio.sleep(1.1)
    aging = await past(collecting).has_always_run()
    taking = Taking(0, past(serving, now=aging.now), image.index)
    removing = Condemnation.removing
    tasks: list[asyncio.Task[None]] = []

    async def beside(*arguments: Any) -> Any:
        if not tasks:
            tasks.append(asyncio.ensure_future(taking.take()))
            await wait_for_lease(collecting)
        return await removing(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Condemnation, "removing", beside)
        await aging.run()
    await tasks[0]
    assert not taking.there
    await taking.check(fresh, image)
    assert [state.digest for state in await fresh.pushed(NAME).manifests.all()] == []


async def wait_for_lease(store: Store) -> None:
    """Wait until somebody has written one."""
    found = False
    while not found:
        await asyncio.sleep(0.01)
        found = bool(await store.documents(TOPIC).names())


async def test_a_lease_at_any_step_of_one_process(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On disk and in memory, whatever step of the removal it comes before."""
    registry = Registry(local_store)
    kinds = [
        (type(local_store.documents(TOPIC)), "write"),
        (type(local_store.pushed(NAME).tags), "expire"),
        (type(local_store.pushed(NAME).manifests), "expire"),
        (type(local_store.blobs), "sweep"),
    ]
    for number in range(30):
        image = await Signed(registry).push("old")
        await asyncio.sleep(0.02)  # the clock of files ticks every few milliseconds
        aging = await past(local_store).has_always_run()
        steps = Taking(number, aging, image.index)
        with monkeypatch.context() as patched:
            for kind, name in kinds:
                patched.setattr(kind, name, steps.beside(getattr(kind, name)))
            await aging.run()
        if steps.there is None:
            return
        await steps.check(local_store, image)
        aging.now += 2 * HOUR
        await aging.run()
        assert await local_store.documents(TOPIC).names() == []
        assert [state.digest for state in await local_store.pushed(NAME).manifests.all()] == []
    pytest.fail("it has more steps than that")


async def test_a_lease_beside_the_end_of_what_has_no_tag(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By ``gc.untagged``: the index that is leased stays with all that is part of it."""
    registry = Registry(local_store)
    kind = type(local_store.pushed(NAME).manifests)
    for number in range(30):
        image = await Signed(registry).push("v1")
        await push_image(registry, "v1", layers=(b"newer",))
        await asyncio.sleep(0.02)  # the clock of files ticks every few milliseconds
        aging = Aging(local_store, now=time.time())
        steps = Taking(number, aging, image.index)
        with monkeypatch.context() as patched:
            patched.setattr(kind, "expire", steps.beside(kind.expire))
            await aging.run(untagged=-1000.0, retention=None)
        if steps.there is None:
            return
        await steps.check(local_store, image)
        for one in await local_store.documents(TOPIC).names():
            await local_store.documents(TOPIC).remove(one)
    pytest.fail("it has more steps than that")


class Taking:
    """A client that gets a token for an image, by digest and tag, beside a step of a collection."""

    def __init__(self, number: int, aging: Aging, image: Described, *, after: bool = False) -> None:
        self._left = number
        self._aging = aging
        self._digest = digest_of(image)
        self._after = after
        self.there: bool | None = None
        """Whether the image was there when the token was handed out; None while it was not."""

        self._tagged = False

    def beside(self, work: Any) -> Any:
        """Return what does the step."""

        async def step(*arguments: Any, **more: Any) -> Any:
            mine = self._left == 0
            self._left -= 1
            if mine and not self._after:
                await self.take()
            done = await work(*arguments, **more)
            if mine and self._after:
                await self.take()
            return done

        return step

    async def take(self) -> None:
        """Get the token, and see what is there."""
        await self._aging.leases.take([(NAME, self._digest), (NAME, Tag("old"))], HOUR)
        index = self._aging.store.pushed(NAME)
        self.there = self._digest in {one.digest for one in await index.manifests.all()}
        self._tagged = await index.tags.get(Tag("old")) is not None

    async def check(self, store: Store, image: Signed) -> None:
        """Find what the token was handed out for, whole and by the tag, or nothing of it."""
        assert self.there is not None
        image = image.at(store)
        assert await image.is_whole() == self.there
        assert self._tagged <= (await store.pushed(NAME).tags.get(Tag("old")) is not None)
        assert not (await verify(store, silent, sparse=False, pause=0)).problems
