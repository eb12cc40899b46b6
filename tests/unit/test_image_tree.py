# SPDX-License-Identifier: Apache-2.0
"""The tree of an image, as far as the store tells it."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import pytest
from buildset_registry import image_tree
from buildset_registry.errors import TooManyRequests
from buildset_registry.image_tree import ImageTrees
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST, OCTETS
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import MAX_MANIFEST
from buildset_registry.oci.names import Reference, RepositoryName, Tag, cosign_tags
from buildset_registry.store.base import RepositoryIndex
from buildset_registry.store.memory import MemoryStore

from tests.unit.upstream.lab import eventually

ONE, TWO = RepositoryName("org/one"), RepositoryName("org/two")
CHILDREN = [Digest.of(b"%d" % number) for number in range(300)]


async def push_index(store: MemoryStore, listed: list[Digest], note: str = "") -> Digest:
    """Store an index; what it lists need not be there."""
    children = [{"mediaType": OCI_MANIFEST, "digest": str(one), "size": 1} for one in listed]
    tree = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
    raw = json.dumps({**tree, "annotations": {"note": note}}).encode()
    await store.blobs.put(Digest.of(raw), raw)
    return Digest.of(raw)


async def test_a_layer_that_an_index_lists_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """buildkit's caches list layers as if they were manifests, and a layer may fill the memory."""
    store, read = MemoryStore(), []
    layer = b"\0" * (MAX_MANIFEST + 1)
    listed = Digest.of(layer)
    descriptor = {"mediaType": OCTETS, "digest": str(listed), "size": len(layer)}
    tree = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor]}
    index = json.dumps(tree).encode()
    for content in (layer, index):
        await store.blobs.put(Digest.of(content), content)
    ask = store.blobs.read

    async def counted(digest: Digest) -> bytes | None:
        read.append(digest)
        return await ask(digest)

    monkeypatch.setattr(store.blobs, "read", counted)
    trees = ImageTrees(store)
    assert await trees.holds((), [Digest.of(index)], listed)
    assert not await trees.holds((), [Digest.of(index)], Digest.of(b"another"))
    assert read == [Digest.of(index)]


async def test_whoever_pushes_decides_neither_how_much_is_kept_nor_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Indexes of many parts, one by one and below one another, by a token for one tag."""
    monkeypatch.setattr(image_tree, "_REMEMBERED_PARTS", 2000)
    monkeypatch.setattr(image_tree, "_MOST_LISTED", 3000)
    store, read = MemoryStore(), []
    indexes = [await push_index(store, CHILDREN, str(number)) for number in range(50)]
    trees, another = ImageTrees(store), Digest.of(b"another")
    for index in indexes:
        assert not await trees.holds((), [index], another)
    assert 0 < sum(one.number for one in trees._known.values()) <= 2000
    top, ask = await push_index(store, indexes), store.blobs.read

    async def counted(digest: Digest) -> bytes | None:
        read.append(digest)
        return await ask(digest)

    monkeypatch.setattr(store.blobs, "read", counted)
    trees = ImageTrees(store)
    assert not await trees.holds((), [top], another)
    assert len(read) < 15
    assert await trees.holds((), [top], indexes[0])
    assert await trees.holds((), [top], indexes[-1])


class Asked:
    """Stands for a repository, which is asked what refers to manifests."""

    def __init__(self) -> None:
        self.referrers = self.tags = self
        self.asked: list[Digest] = []

    async def of(self, subject: Digest) -> list[Digest]:
        """Return nothing that refers to a manifest."""
        self.asked.append(subject)
        return []

    async def get(self, _tag: Tag) -> None:
        """Return nothing that a tag names."""


async def test_of_a_huge_index_not_all_is_asked_what_refers_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That is five requests to a bucket for each part; what it lists is known without."""
    monkeypatch.setattr(image_tree, "_MOST_ASKED", 200)
    store, asked = MemoryStore(), Asked()
    root = await push_index(store, CHILDREN)
    indexes = (cast(RepositoryIndex, asked),)
    trees = ImageTrees(store)
    assert not await trees.holds(indexes, [root], Tag("another"))
    assert len(asked.asked) == 200
    assert asked.asked[0] == root
    for one in (CHILDREN[0], CHILDREN[-1], cosign_tags(CHILDREN[-1])[0]):
        assert await trees.holds(indexes, [root], one)


class Counted:
    """The blobs of a store, with how often something was looked for, and when each look goes on."""

    def __init__(self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        size = store.blobs.size

        async def counted(digest: Digest) -> int | None:
            self.looks += 1
            found = await size(digest)
            await self.go_on.wait()
            return found

        monkeypatch.setattr(store.blobs, "size", counted)


async def test_many_who_miss_in_a_large_tree_share_a_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not there costs a look for each part; of many at once, all of them together."""
    monkeypatch.setattr(image_tree, "_QUICK", 20)
    store = MemoryStore()
    root = await push_index(store, CHILDREN)
    counted, trees = Counted(store, monkeypatch), ImageTrees(store)
    others = [Digest.of(b"other %d" % number) for number in range(100)]
    wanted: list[Reference] = [*others, CHILDREN[7], Tag("another")]
    found = await asyncio.gather(*(trees.holds((), [root], one) for one in wanted))
    assert [one for one, held in zip(wanted, found, strict=True) if held] == [CHILDREN[7]]
    assert counted.looks < 101 * 40 + 4 * len(CHILDREN)
    assert not trees._waiting


async def test_who_asks_while_a_walk_is_under_way_is_told_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Since it may be about what came after the walk passed by; nor does one who leaves end it."""
    monkeypatch.setattr(image_tree, "_QUICK", 20)
    store, layer = MemoryStore(), Digest.of(b"layer")
    child = json.dumps({"schemaVersion": 2, "layers": [{"digest": str(layer), "size": 1}]}).encode()
    root = await push_index(store, [*CHILDREN[:75], Digest.of(child), *CHILDREN[75:]])
    counted, trees = Counted(store, monkeypatch), ImageTrees(store)
    ask = [
        asyncio.ensure_future(trees.holds((), [root], one)) for one in (layer, root, CHILDREN[9])
    ]
    assert [await one for one in ask] == [False, True, True]
    async with trees._long, trees._long:
        first, second = (
            asyncio.ensure_future(trees.holds((), [root], one)) for one in (layer, Digest.of(b"x"))
        )
        await eventually(lambda: [len(one.wanted) == 2 for one in trees._waiting.values()])
        counted.go_on.clear()
    await eventually(lambda: not trees._waiting)
    await store.blobs.put(Digest.of(child), child)
    later = asyncio.ensure_future(trees.holds((), [root], layer))
    second.cancel()
    counted.go_on.set()
    assert [await first, await later] == [False, True]
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_trees_that_wait_are_few_and_small_ones_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client of many large trees is told to come again; images of usual size go on."""
    monkeypatch.setattr(image_tree, "_QUICK", 20)
    monkeypatch.setattr(image_tree, "_MOST_WAITING", 3)
    store, other = MemoryStore(), Digest.of(b"other")
    large = [await push_index(store, CHILDREN, str(number)) for number in range(9)]
    small = await push_index(store, CHILDREN[:4])
    trees = ImageTrees(store)
    async with trees._long, trees._long:
        asked = [asyncio.ensure_future(trees.holds((), [one], other)) for one in large]
        await eventually(lambda: sum(one.done() for one in asked) == 6)
        assert not await trees.holds((), [small], other)
        assert await trees.holds((), [small], CHILDREN[2])
        with pytest.raises(TooManyRequests, match="try again soon"):
            await trees.holds((), [large[8]], other)
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert outcomes.count(False) == 3
    assert not await trees.holds((), large, other)


async def test_a_repository_s_referrers_are_not_another_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have the same image; what is asked of both at once is answered for each."""
    monkeypatch.setattr(image_tree, "_QUICK", 20)
    store = MemoryStore()
    root, signature = await push_index(store, CHILDREN), Digest.of(b"signature")
    await store.pushed(ONE).referrers.add(root, signature)
    trees = ImageTrees(store)
    asked = [trees.holds((store.pushed(one),), [root], signature, one) for one in (ONE, TWO, ONE)]
    assert await asyncio.gather(*asked) == [True, False, True]
