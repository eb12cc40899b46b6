# SPDX-License-Identifier: Apache-2.0
"""Collection and pushes of indexes as large as a manifest may be, beside other requests."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from buildset_registry.gc import collect
from buildset_registry.gc.state import CollectionRules
from buildset_registry.oci.descriptor import OCI_INDEX
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.registry import Registry
from buildset_registry.store.base import Store

from tests.stores.fixtures import ObjectStores
from tests.unit.loop import longest_hold
from tests.unit.store.kinds import LOCAL, opened

NAME = RepositoryName("big")
#: Seconds; reading one such index takes several times as long where nobody else has a turn.
PATIENCE = 0.1


@pytest.fixture(params=LOCAL)
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, object_stores: ObjectStores
) -> AsyncIterator[Store]:
    """Where a look at a manifest takes no time, it is the registry's own that is told."""
    async with opened(request.param, tmp_path, object_stores) as made:
        yield made


def index(number: int, entries: int = 34_000) -> bytes:
    listed = [
        {"mediaType": "a", "digest": str(Digest.of(b"%d %d" % (number, one))), "size": 1}
        for one in range(entries)
    ]
    tree = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
    return json.dumps(tree, separators=(",", ":")).encode()


async def test_large_indexes_hold_nobody_up(store: Store) -> None:
    """Neither their push nor a collection over them does."""
    registry = Registry(store)
    for number in range(2):
        push = registry.push_manifest(NAME, [Tag(f"t{number}")], index(number), OCI_INDEX)
        held, _pushed = await longest_hold(push)
        assert held < PATIENCE
    rules = CollectionRules(grace=60, untagged=60, uploads=60, cache_size=0)
    held, report = await longest_hold(collect(store, rules, lambda _one: None, dry_run=False))
    assert held < PATIENCE
    assert report.removed == []
