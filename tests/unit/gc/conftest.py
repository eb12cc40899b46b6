# SPDX-License-Identifier: Apache-2.0
"""A registry over each kind of store."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem import FilesystemStore
from buildset_registry.store.memory import MemoryStore


@pytest.fixture(params=["filesystem", "memory"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[FilesystemStore | MemoryStore]:
    made = FilesystemStore(tmp_path / "store") if request.param == "filesystem" else MemoryStore()
    with contextlib.closing(made):
        yield made


@pytest.fixture
def registry(store: FilesystemStore | MemoryStore) -> Registry:
    return Registry(store)
