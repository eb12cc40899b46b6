# SPDX-License-Identifier: Apache-2.0
"""The store in a bucket of Google Cloud Storage."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from buildset_registry.config import Config, StorageSettings
from buildset_registry.errors import ConfigError
from buildset_registry.store.base import Purpose

if TYPE_CHECKING:
    from buildset_registry.store.objects.store import ObjectStore

__all__ = ["open_gcs"]


async def open_gcs(config: Config, purpose: Purpose) -> ObjectStore:
    """Open the bucket that is configured; ``ConfigError`` says why it cannot be used."""
    storage = config.storage
    settings = storage.gcs if isinstance(storage, StorageSettings) else None
    if settings is None:
        raise ConfigError("storage.gcs is missing; set it")
    try:
        # Half a second, for whoever has such a store only.
        from buildset_registry.store.gcs.access import access_to
        from buildset_registry.store.gcs.dialect import GcsDialect
        from buildset_registry.store.objects.store import open_objects
    except ModuleNotFoundError as error:
        message = f"storage.gcs needs {error.name}; install buildset-registry[gcs]"
        raise ConfigError(message) from None
    access = await asyncio.to_thread(access_to, settings)
    dialect = GcsDialect(settings, access)
    return await open_objects(dialect, settings.rootdirectory, config, purpose)
