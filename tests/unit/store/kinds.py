# SPDX-License-Identifier: Apache-2.0
"""The kinds of store that the tests of the contract run over."""

from collections.abc import Callable, Mapping
from pathlib import Path

from buildset_registry.config import Config, Endpoints, StorageSettings

from tests import buckets, services


def _bucket(start: Callable[[], services.Service]) -> Callable[[Path], Config]:
    """Return what makes a configuration of a new bucket of a service."""

    def configured(_folder: Path) -> Config:
        service = start()
        s3 = buckets.settings(service, buckets.new_bucket(service))
        return Config(endpoints=Endpoints(), storage=StorageSettings(s3=s3))

    return configured


#: How each is configured, with a folder for whatever it needs; behind a dash, by which service.
CONFIGURED: Mapping[str, Callable[[Path], Config]] = {
    "filesystem": lambda folder: Config(endpoints=Endpoints(), storage=folder / "store"),
    "memory": lambda folder: Config(endpoints=Endpoints(), storage="memory"),
    "s3-minio": _bucket(services.minio),
    "s3-versitygw": _bucket(services.versitygw),
}
