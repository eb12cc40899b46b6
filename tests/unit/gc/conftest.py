# SPDX-License-Identifier: Apache-2.0
"""A registry over each kind of store, and the kinds that need no server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from buildset_registry.registry import Registry
from buildset_registry.store.base import Store

from tests.stores.fixtures import ObjectStores
from tests.unit.store.kinds import LOCAL, opened


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)


@pytest.fixture(params=LOCAL)
async def local_store(
    request: pytest.FixtureRequest, tmp_path: Path, object_stores: ObjectStores
) -> AsyncIterator[Store]:
    """Each of them in turn."""
    async with opened(request.param, tmp_path, object_stores) as made:
        yield made
