# SPDX-License-Identifier: Apache-2.0
"""The services of objects that registries are compared on: one of each kind for a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.stores.servers import S3Server, minio
from tests.stores.swift import Swift, swift


@dataclass(frozen=True)
class Bucket:
    """A bucket, or a container, of one registry's own."""

    settings: Mapping[str, Any]
    """By distribution's names."""

    folder: Path
    """Where its service keeps what is in it."""

    clouds: str = ""
    """What OpenStack's own clients read of it, where it is Swift's."""


class Services:
    """Servers, each started when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Services:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def bucket(self, kind: str) -> Bucket | None:
        """Return a new bucket of a kind of service; None for no kind."""
        if kind == "s3":
            name = self._minio.bucket()
            settings = self._minio.settings(name, forcepathstyle=True)
            return Bucket(settings, self._minio.folder / name)
        if kind == "swift":
            name = self._swift.container()
            place = self._folder / "swift" / "swift" / "node" / "d1" / "objects"
            return Bucket(self._swift.settings(name), place, _clouds(self._swift))
        return None

    @cached_property
    def _minio(self) -> S3Server:
        return self._stack.enter_context(minio(self._made("minio")))

    @cached_property
    def _swift(self) -> Swift:
        return self._stack.enter_context(swift(self._made("swift")))

    def _made(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(parents=True)
        return folder


def _clouds(server: Swift) -> str:
    auth = {
        "auth_url": server.auth_url,
        "username": server.username,
        "password": server.password,
        "project_name": server.project,
        "user_domain_name": server.domain,
        "project_domain_name": server.domain,
    }
    return json.dumps({"clouds": {"bench": {"auth": auth, "region_name": server.region}}})
