# SPDX-License-Identifier: Apache-2.0
"""The object stores of a run of tests: one process of each, started when it is first asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import pytest

from tests.stores import servers
from tests.stores.servers import AzureServer, GoogleServer, OssServer, S3Server
from tests.stores.swift import Swift, swift

Server = TypeVar("Server")


class ObjectStores:
    """Servers in folders of a place; each bucket or container is a test's own."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._stack = ExitStack()

    def close(self) -> None:
        """End those that were started, and remove what they wrote."""
        self._stack.close()
        shutil.rmtree(self._place)

    def _start(self, name: str, run: Callable[[Path], AbstractContextManager[Server]]) -> Server:
        folder = self._place / name
        folder.mkdir()
        return self._stack.enter_context(run(folder))

    @cached_property
    def minio(self) -> S3Server:
        """MinIO."""
        return self._start("minio", servers.minio)

    @cached_property
    def versitygw(self) -> S3Server:
        """A gateway that is strict about signatures."""
        return self._start("versitygw", servers.versitygw)

    @cached_property
    def fake_gcs(self) -> GoogleServer:
        """Google's protocol, signatures unchecked."""
        return self._start("fake-gcs", servers.fake_gcs)

    @cached_property
    def azurite(self) -> AzureServer:
        """Azure's protocol, signatures checked."""
        return self._start("azurite", servers.azurite)

    @cached_property
    def fake_oss(self) -> OssServer:
        """OSS's protocol, signatures checked."""
        return self._start("fake-oss", servers.fake_oss)

    @cached_property
    def swift(self) -> Swift:
        """Swift with Keystone."""
        return self._start("swift", swift)


@pytest.fixture(scope="session")
def object_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStores]:
    """The servers, none of them started yet."""
    stores = ObjectStores(tmp_path_factory.mktemp("object-stores"))
    yield stores
    stores.close()
