# SPDX-License-Identifier: Apache-2.0
"""The tree of an image, as far as the store tells it."""

from __future__ import annotations

import json
from typing import cast

import pytest
from buildset_registry import image_tree
from buildset_registry.image_tree import ImageTrees
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST, OCTETS
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import MAX_MANIFEST
from buildset_registry.oci.names import Tag, cosign_tags
from buildset_registry.store.base import RepositoryIndex
from buildset_registry.store.memory import MemoryStore

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
