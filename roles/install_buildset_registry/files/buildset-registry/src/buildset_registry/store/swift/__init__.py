# SPDX-License-Identifier: Apache-2.0
"""The store in a container of OpenStack Swift."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildset_registry.config import Config
from buildset_registry.store.objects.opening import open_service
from buildset_registry.store.purpose import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildset_registry.config import SwiftSettings
    from buildset_registry.store.objects.store import ObjectStore
    from buildset_registry.store.swift.access import SwiftAccess
    from buildset_registry.store.swift.dialect import SwiftDialect

__all__ = ["open_swift"]


async def open_swift(config: Config, purpose: Purpose) -> ObjectStore:
    """Open the container that is configured; ``ConfigError`` says why it cannot be used."""
    return await open_service("swift", _load, config, purpose, _root)


def _load() -> tuple[Callable[[SwiftSettings], SwiftAccess], type[SwiftDialect]]:
    from buildset_registry.store.swift.access import access_to
    from buildset_registry.store.swift.dialect import SwiftDialect

    return access_to, SwiftDialect


def _root(settings: SwiftSettings) -> str:
    """Return the folder by distribution's names: what is beside ``files`` are segments."""
    return "/".join(filter(None, (settings.prefix.strip("/"), "files")))
