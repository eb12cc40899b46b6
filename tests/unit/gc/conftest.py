# SPDX-License-Identifier: Apache-2.0
"""A registry over each kind of store."""

import pytest
from buildset_registry.registry import Registry
from buildset_registry.store.base import Store


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)
