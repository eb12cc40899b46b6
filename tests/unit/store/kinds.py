# SPDX-License-Identifier: Apache-2.0
"""The kinds of store that the tests of the contract run over."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

from buildset_registry.config import (
    AzureSettings,
    Config,
    Endpoints,
    GcsSettings,
    OssSettings,
    S3Settings,
    StorageSettings,
    SwiftSettings,
)
from buildset_registry.store import open_store
from buildset_registry.store.base import Store

from tests.stores.fixtures import ObjectStores
from tests.stores.servers import AzureServer, GoogleServer, OssServer, S3Server, fresh_name
from tests.stores.swift import Swift


def s3(server: S3Server, **more: object) -> Config:
    """Return the configuration of a new bucket of a server."""
    given = server.settings(server.bucket(), **more)
    settings = S3Settings(**given)  # type: ignore[arg-type]  # what a test is about
    return Config(endpoints=Endpoints(), storage=StorageSettings(s3=settings))


def swift(server: Swift, **more: object) -> Config:
    """Return the configuration of a new container of a server."""
    settings = SwiftSettings(**server.settings(server.container(), **more))  # type: ignore[arg-type]
    return Config(endpoints=Endpoints(), storage=StorageSettings(swift=settings))


def azure(server: AzureServer, **more: object) -> Config:
    """Return the configuration of a new container of a server."""
    settings = AzureSettings(**server.settings(server.container(), **more))  # type: ignore[arg-type]
    return Config(endpoints=Endpoints(), storage=StorageSettings(azure=settings))


def gcs(server: GoogleServer, **more: object) -> Config:
    """Return the configuration of a new bucket of a server."""
    settings = GcsSettings(**server.settings(server.bucket(), **more))  # type: ignore[arg-type]
    return Config(endpoints=Endpoints(), storage=StorageSettings(gcs=settings))


def oss(server: OssServer, **more: object) -> Config:
    """Return the configuration of a new folder in the bucket of a server."""
    settings = OssSettings(**server.settings(fresh_name(), **more))  # type: ignore[arg-type]
    return Config(endpoints=Endpoints(), storage=StorageSettings(oss=settings))


#: How each is configured, with a folder and the servers for whatever it needs; what is behind a
#: dash tells the server.
CONFIGURED: Mapping[str, Callable[[Path, ObjectStores], Config]] = {
    "filesystem": lambda folder, _servers: Config(endpoints=Endpoints(), storage=folder / "store"),
    "memory": lambda _folder, _servers: Config(endpoints=Endpoints(), storage="memory"),
    "azure": lambda _folder, servers: azure(servers.azurite),
    "gcs": lambda _folder, servers: gcs(servers.fake_gcs),
    "oss": lambda _folder, servers: oss(servers.fake_oss),
    "s3-minio": lambda _folder, servers: s3(servers.minio),
    "s3-versitygw": lambda _folder, servers: s3(servers.versitygw),
    "swift": lambda _folder, servers: swift(servers.swift),
}

#: Those that need no server.
LOCAL = ("filesystem", "memory")


@asynccontextmanager
async def opened(kind: str, folder: Path, servers: ObjectStores) -> AsyncIterator[Store]:
    """Open a new store of a kind, as the configuration of a registry opens it."""
    async with aclosing(await open_store(CONFIGURED[kind](folder, servers))) as store:
        yield store


@asynccontextmanager
async def replicas_of(config: Config, number: int) -> AsyncIterator[list[Store]]:
    """Open one bucket as so many processes do."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(aclosing(await open_store(config)))
            for _number in range(number)
        ]
