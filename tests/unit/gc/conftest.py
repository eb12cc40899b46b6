# SPDX-License-Identifier: Apache-2.0
"""A registry over each kind of store."""

import pytest
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem.store import FilesystemStore
from buildset_registry.store.memory import MemoryStore


@pytest.fixture
def registry(store: FilesystemStore | MemoryStore) -> Registry:
    return Registry(store)
