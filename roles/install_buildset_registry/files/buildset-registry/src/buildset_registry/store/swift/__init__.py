# SPDX-License-Identifier: Apache-2.0
"""The store in a container of OpenStack Swift."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from buildset_registry.config import Config, StorageSettings
from buildset_registry.errors import ConfigError
from buildset_registry.store.base import Purpose

if TYPE_CHECKING:
    from buildset_registry.store.objects.store import ObjectStore

__all__ = ["open_swift"]


async def open_swift(config: Config, purpose: Purpose) -> ObjectStore:
    """Open the container that is configured; ``ConfigError`` says why it cannot be used."""
    storage = config.storage
    settings = storage.swift if isinstance(storage, StorageSettings) else None
    if settings is None:
        raise ConfigError("storage.swift is missing; set it")
    try:
        # Half a second, for whoever has such a store only.
        from buildset_registry.store.objects.store import open_objects
        from buildset_registry.store.swift.access import access_to
        from buildset_registry.store.swift.dialect import SwiftDialect
    except ModuleNotFoundError as error:
        message = f"storage.swift needs {error.name}; install buildset-registry[swift]"
        raise ConfigError(message) from None
    access = await asyncio.to_thread(access_to, settings)
    dialect = SwiftDialect(settings, access)
    # distribution's names: what is beside ``files`` are segments.
    root = "/".join(filter(None, (settings.prefix.strip("/"), "files")))
    return await open_objects(dialect, root, config, purpose)
