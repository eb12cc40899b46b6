# SPDX-License-Identifier: Apache-2.0
"""The tree of an image, as far as the store tells it."""

from __future__ import annotations

import json

import pytest
from buildset_registry.image_tree import ImageTrees
from buildset_registry.oci.descriptor import OCI_INDEX, OCTETS
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import MAX_MANIFEST
from buildset_registry.store.memory import MemoryStore


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
