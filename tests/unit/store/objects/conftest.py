# SPDX-License-Identifier: Apache-2.0
"""A bucket, and a server in front of it that may answer itself."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.config import Config, Endpoints, S3Settings, StorageSettings
from buildset_registry.store import open_store
from buildset_registry.store.base import Store

from tests.ports import free_port
from tests.stores.fixtures import ObjectStores
from tests.unit.store.objects.meddler import Meddler, meddling

#: Makes a configuration of the bucket, with other parameters.
Configure = Callable[..., Config]


@pytest.fixture
async def meddler(object_stores: ObjectStores) -> AsyncIterator[Meddler]:
    """A server in front of MinIO."""
    async with meddling(object_stores.minio.url, free_port()) as running:
        yield running


@pytest.fixture
def configure(object_stores: ObjectStores, meddler: Meddler, tmp_path: Path) -> Configure:
    """A configuration of a new bucket behind the server."""
    server = object_stores.minio
    bucket = server.bucket()

    def make(**more: Any) -> Config:
        given = server.settings(bucket) | {"regionendpoint": meddler.url} | more
        settings = S3Settings(**given)  # type: ignore[arg-type]  # what a test is about
        return Config(endpoints=Endpoints(), storage=StorageSettings(s3=settings))

    return make


@pytest.fixture
async def bucket(configure: Configure) -> AsyncIterator[Store]:
    """A store in the bucket behind the server."""
    async with aclosing(await open_store(configure())) as opened:
        yield opened
