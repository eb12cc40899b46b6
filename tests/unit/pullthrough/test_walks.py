# SPDX-License-Identifier: Apache-2.0
"""Walks over what an upstream's indexes list: each manifest once, and not for ever."""

import json

import pytest
from buildset_registry import lookup
from buildset_registry.errors import UpstreamBusy
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem.store import FilesystemStore

from tests.unit.loop import longest_hold
from tests.unit.pullthrough.reading import ALL
from tests.unit.upstream.lab import (
    BLOB,
    BLOB_DIGEST,
    BLOB_PATH,
    MANIFEST,
    NAME,
    V1,
    V1_PATH,
    Server,
    manifest,
    reply,
)

LAYER = b"a layer of somebody else"


def listed(raw: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(raw)), "size": len(raw)}


def nested(depth: int, leaf: bytes) -> list[bytes]:
    """Return a chain of indexes, each of which lists the one before twice, the leaf first."""
    chain, media_type = [leaf], OCI_MANIFEST
    for level in range(depth):
        children = [listed(chain[-1], media_type)] * 2
        tree = {"schemaVersion": 2, "manifests": children, "annotations": {"level": str(level)}}
        chain.append(json.dumps({**tree, "mediaType": OCI_INDEX}).encode())
        media_type = OCI_INDEX
    return chain


async def pull(registry: Registry, quay: Server, chain: list[bytes]) -> None:
    """Pull all of a chain through, its last by a tag."""
    quay.on(V1_PATH, manifest(chain[-1]))
    await registry.manifest(NAME, V1)
    for raw in chain[:-1]:
        media_type = OCI_MANIFEST if b'"config"' in raw else OCI_INDEX
        quay.on(f"/v2/org/app/manifests/{Digest.of(raw)}", manifest(raw, media_type))
        await registry.manifest(NAME, Digest.of(raw))


async def test_nested_indexes_cost_no_more_than_their_number(
    registry: Registry, store: FilesystemStore, quay: Server
) -> None:
    """Forty levels, each of which lists the next twice, hold nobody up for 0.1 s."""
    await store.blobs.put(Digest.of(LAYER), LAYER)
    await pull(registry, quay, nested(40, MANIFEST))
    quay.on(f"/v2/org/app/blobs/{Digest.of(LAYER)}", reply(429))

    async def ask() -> None:
        with pytest.raises(UpstreamBusy):
            await registry.blob(NAME, Digest.of(LAYER), ALL)

    held, _nothing = await longest_hold(ask())
    assert held < 0.1


async def test_a_layer_at_the_end_of_nested_indexes_is_found(
    registry: Registry, store: FilesystemStore, quay: Server
) -> None:
    """It is served from the store while upstream is at its limit."""
    await store.blobs.put(BLOB_DIGEST, BLOB)
    tree = {"schemaVersion": 2, "config": listed(BLOB, "application/x"), "layers": []}
    await pull(registry, quay, nested(40, json.dumps(tree).encode()))
    quay.on(BLOB_PATH, reply(429))
    assert await registry.blob_size(NAME, BLOB_DIGEST, ALL) == len(BLOB)
    await registry.blob(NAME, BLOB_DIGEST, ALL)


async def test_a_walk_has_an_end(
    registry: Registry, store: FilesystemStore, quay: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past so many manifests, what is further down is not looked for."""
    monkeypatch.setattr(lookup, "_MOST_MANIFESTS", 10)
    await store.blobs.put(BLOB_DIGEST, BLOB)
    tree = {"schemaVersion": 2, "config": listed(BLOB, "application/x"), "layers": []}
    await pull(registry, quay, nested(40, json.dumps(tree).encode()))
    quay.on(BLOB_PATH, reply(429))
    with pytest.raises(UpstreamBusy):
        await registry.blob(RepositoryName(NAME), BLOB_DIGEST, ALL)
