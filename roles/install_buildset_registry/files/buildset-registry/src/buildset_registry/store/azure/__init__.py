# SPDX-License-Identifier: Apache-2.0
"""The store in a container of Azure Blob Storage."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from buildset_registry.config import Config, StorageSettings
from buildset_registry.errors import ConfigError
from buildset_registry.store.base import Purpose

if TYPE_CHECKING:
    from buildset_registry.store.objects.store import ObjectStore

__all__ = ["open_azure"]


async def open_azure(config: Config, purpose: Purpose) -> ObjectStore:
    """Open the container that is configured; ``ConfigError`` says why it cannot be used."""
    storage = config.storage
    settings = storage.azure if isinstance(storage, StorageSettings) else None
    if settings is None:
        raise ConfigError("storage.azure is missing; set it")
    try:
        # Half a second, for whoever has such a store only.
        from buildset_registry.store.azure.access import access_to
        from buildset_registry.store.azure.dialect import AzureDialect
        from buildset_registry.store.objects.store import open_objects
    except ModuleNotFoundError as error:
        message = f"storage.azure needs {error.name}; install buildset-registry[azure]"
        raise ConfigError(message) from None
    access = await asyncio.to_thread(access_to, settings)
    dialect = AzureDialect(settings, access)
    return await open_objects(dialect, settings.rootdirectory, config, purpose)
