# SPDX-License-Identifier: Apache-2.0
"""The store's word on images whose manifests are as large as they may be."""

from __future__ import annotations

import hashlib
import json

import pytest
from buildset_registry.ledger.facts import StoreFacts
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from buildset_registry.oci.digest import Digest
from buildset_registry.store.memory import MemoryStore
from buildset_registry.upstream.counters import UpstreamCounters


def manifest(key: str, media_type: str, number: int) -> bytes:
    parts = [
        {
            "mediaType": "application/octet-stream",
            "digest": f"sha256:{hashlib.sha256(str(one).encode()).hexdigest()}",
            "size": 1,
        }
        for one in range(number)
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, key: parts}).encode()


@pytest.mark.parametrize(
    ("key", "media_type"), [("manifests", OCI_INDEX), ("layers", OCI_MANIFEST)]
)
async def test_a_manifest_of_too_many_parts_is_not_kept(key: str, media_type: str) -> None:
    store = MemoryStore()
    facts = StoreFacts(store, UpstreamCounters())
    for number, kept in ((20, True), (2000, False), (2000, False)):
        raw = manifest(key, media_type, number)
        digest = Digest.of(raw)
        await store.blobs.put(digest, raw)
        found = await facts.parts("app", str(digest))
        assert (found is not None) is kept
