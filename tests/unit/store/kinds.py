# SPDX-License-Identifier: Apache-2.0
"""The kinds of store that the tests of the contract run over."""

from collections.abc import Callable, Mapping
from pathlib import Path

from buildset_registry.config import Config, Endpoints, S3Settings, StorageSettings

from tests.stores.fixtures import ObjectStores
from tests.stores.servers import S3Server


def s3(server: S3Server, **more: object) -> Config:
    """Return the configuration of a new bucket of a server."""
    given = server.settings(server.bucket(), **more)
    settings = S3Settings(**given)  # type: ignore[arg-type]  # what a test is about
    return Config(endpoints=Endpoints(), storage=StorageSettings(s3=settings))


#: How each is configured, with a folder and the servers for whatever it needs; what is behind a
#: dash tells the server.
CONFIGURED: Mapping[str, Callable[[Path, ObjectStores], Config]] = {
    "filesystem": lambda folder, _servers: Config(endpoints=Endpoints(), storage=folder / "store"),
    "memory": lambda _folder, _servers: Config(endpoints=Endpoints(), storage="memory"),
    "s3-minio": lambda _folder, servers: s3(servers.minio),
    "s3-versitygw": lambda _folder, servers: s3(servers.versitygw),
}

#: Those that need no server.
LOCAL = [kind for kind in CONFIGURED if "-" not in kind]
