# SPDX-License-Identifier: Apache-2.0
"""Retention where several processes share a bucket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.errors import BlobUnknown, ManifestUnknown
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Tag
from buildset_registry.registry import Registry
from buildset_registry.store.base import Store
from buildset_registry.store.objects import keys
from buildset_registry.store.objects.dialect import ObjectFailure
from buildset_registry.store.objects.store import ObjectStore
from buildset_registry.verify import verify

from tests.stores.fixtures import ObjectStores
from tests.unit.gc.aging import DAY, Aging, tags_removed
from tests.unit.gc.images import NAME, digest_of, is_whole, push_image, push_index, silent
from tests.unit.retention.ages import rule
from tests.unit.store.blobs import content_of
from tests.unit.store.kinds import CONFIGURED, replicas_of


@pytest.fixture
async def replicas(tmp_path: Path, object_stores: ObjectStores) -> AsyncIterator[list[Store]]:
    """Two processes' views of one bucket."""
    config = CONFIGURED["s3-minio"](tmp_path, object_stores)
    async with replicas_of(config, 2) as opened_by_each:
        yield opened_by_each


async def test_a_pull_at_one_replica_keeps_an_image_from_another(replicas: list[Store]) -> None:
    """And one says why what the other removed is gone."""
    first, second = replicas
    registry = Registry(first)
    used = await push_image(registry, "used", layers=(b"used",))
    unused = await push_image(registry, "unused", layers=(b"unused",))
    await asyncio.sleep(2.2)
    split = time.time()
    pulling = await Aging(first, now=split + 7 * DAY).has_always_run()
    pulling.use(used)
    await pulling.retention.uses.flush()
    aging = Aging(second, [rule(pulled_within=7)], now=split + 7 * DAY)
    assert tags_removed(await aging.run()) == ["unused"]
    asked = Registry(first, removals=pulling.retention.removals)
    assert await is_whole(asked, NAME, used)
    await asyncio.sleep(3.1)  # for which a replica may take a link to be there still
    for reference in (Tag("unused"), digest_of(unused)):
        with pytest.raises(ManifestUnknown, match="by rule 1 of the retention"):
            await asked.describe(NAME, reference)


async def test_a_pull_at_another_replica_just_before_a_removal_fails_and_gets_nothing_wrong(
    replicas: list[Store],
) -> None:
    """Within seconds of its use, which is not written down yet: an error, never a part as a whole.

    Whatever the replica remembers of links and manifests from the moment before.
    """
    first, second = replicas
    registry = Registry(first)
    child = await push_image(registry, layers=(b"layer",))
    index = await push_index(registry, "old", children=[child])
    await asyncio.sleep(1.1)
    pulling = Aging(second)
    there = Registry(second, removals=pulling.retention.removals)
    assert await is_whole(there, NAME, child)
    assert (await there.manifest(NAME, Tag("old"))).digest == digest_of(index)
    pulling.use(index)  # and is written in the next round
    aging = await Aging(first, [rule(pushed_within=1)], now=pulling.now).has_always_run()
    assert tags_removed(await aging.run()) == ["old"]
    with pytest.raises(ManifestUnknown, match="by rule 1 of the retention"):
        await there.manifest(NAME, Tag("old"))
    for digest in (digest_of(index), digest_of(child)):
        with suppress(ManifestUnknown):  # or as it was, for the seconds that links are remembered
            assert Digest.of((await there.manifest(NAME, digest)).raw) == digest
    for content in (b"layer", b"{}"):
        with pytest.raises((BlobUnknown, ObjectFailure)):
            await content_of(await there.blob(NAME, Digest.of(content)))
    await asyncio.sleep(3.1)  # for which a replica may take a link to be there still
    for digest in (digest_of(index), digest_of(child)):
        with pytest.raises(ManifestUnknown, match="by rule 1 of the retention"):
            await there.manifest(NAME, digest)
    await pulling.retention.uses.flush()
    assert not (await verify(second, silent, sparse=False, pause=0)).problems


async def test_a_tag_that_another_replica_is_setting_is_given_back(replicas: list[Store]) -> None:
    """Its own link was written just before the removal; the list of what it was tells."""
    first, second = replicas
    assert isinstance(first, ObjectStore)
    one, two = Digest.of(b"one"), Digest.of(b"two")
    tags, tag = second.pushed(NAME).tags, Tag("v1")
    await first.pushed(NAME).tags.set(tag, one)
    found = await tags.get(tag)
    assert found
    await asyncio.sleep(1.1)
    await first.pushed(NAME).manifests.add(two)
    index = keys.tag_index(keys.tags(first._keys.repository(NAME)), tag)
    await first._small.write(keys.link(index, two), str(two).encode())
    assert not await tags.expire(tag, found)
    given_back = await tags.get(tag)
    assert given_back
    assert given_back.digest == two


async def test_a_tag_that_is_set_while_it_is_removed_is_lost_by_no_order(
    replicas: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One replica has looked and is about to remove; the other one's writes are of unlike speed."""
    first, second = replicas
    assert isinstance(first, ObjectStore)
    assert isinstance(second, ObjectStore)
    one, two, tag = Digest.of(b"one"), Digest.of(b"two"), Tag("v1")
    tags = second.pushed(NAME).tags
    await first.pushed(NAME).tags.set(tag, one)
    found = await tags.get(tag)
    assert found
    slow = SlowIndex(first)
    monkeypatch.setattr(first._small, "write", slow.write)
    remove, setting = second._small.remove, []

    async def remove_late(key: str) -> bool:
        setting.append(asyncio.ensure_future(first.pushed(NAME).tags.set(tag, two)))
        await slow.others_are_done()
        return await remove(key)

    monkeypatch.setattr(second._small, "remove", remove_late)
    await tags.expire(tag, found)
    slow.go_on.set()
    await asyncio.gather(*setting)
    there = await tags.get(tag)
    assert there
    assert there.digest == two


async def test_a_tag_that_was_set_since_is_not_restored(replicas: list[Store]) -> None:
    """Another replica has moved it when its image turns out to be leased."""
    first, second = replicas
    one, two, tag = Digest.of(b"one"), Digest.of(b"two"), Tag("v1")
    await second.pushed(NAME).tags.set(tag, two)
    await first.pushed(NAME).tags.restore(tag, one)
    target = await first.pushed(NAME).tags.get(tag)
    assert target
    assert target.digest == two


class SlowIndex:
    """Writes of a replica of which those to the list of what a tag ever was take long."""

    def __init__(self, store: ObjectStore) -> None:
        self._write = store._small.write
        self._begun = asyncio.Event()
        self._others: list[asyncio.Task[str]] = []
        self.go_on = asyncio.Event()

    async def write(self, key: str, content: bytes, *more: Any) -> str:
        """Write now, or when it may go on."""
        if "/index/" not in key:
            self._others.append(asyncio.ensure_future(self._write(key, content, *more)))
            return await self._others[-1]
        self._begun.set()
        await self.go_on.wait()
        return await self._write(key, content, *more)

    async def others_are_done(self) -> None:
        """Wait for the writes that do not wait for it."""
        await self._begun.wait()
        await asyncio.sleep(0)
        await asyncio.gather(*self._others)
