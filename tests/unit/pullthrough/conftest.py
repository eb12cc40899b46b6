# SPDX-License-Identifier: Apache-2.0
"""A registry that pulls through from quay.io."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from buildset_registry.pullthrough import Pace, PullThrough
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem.store import FilesystemStore
from buildset_registry.upstream.client import UpstreamClient

from tests.unit.upstream.lab import BLOB_PATH, V1_PATH, Server, blob, manifest


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemStore]:
    async with aclosing(FilesystemStore(tmp_path)) as made:
        yield made


@pytest.fixture
async def pull_through(
    store: FilesystemStore, quay: Server, connect: Callable[..., UpstreamClient]
) -> AsyncIterator[PullThrough]:
    quay.on(V1_PATH, manifest())
    quay.on(BLOB_PATH, blob())
    # Pieces smaller than the blob: a blob of one piece is given only once it is whole.
    made = PullThrough(store, connect(), pace=Pace(piece=1000, pause=0))
    yield made
    await made.close()


@pytest.fixture
def registry(store: FilesystemStore, pull_through: PullThrough) -> Registry:
    return Registry(store, pull_through)
