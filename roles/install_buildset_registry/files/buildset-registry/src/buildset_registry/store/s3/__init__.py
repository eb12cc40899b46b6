# SPDX-License-Identifier: Apache-2.0
"""The store in a bucket of Amazon S3, or of another service that speaks as it does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from buildset_registry.config import Config, StorageSettings
from buildset_registry.errors import ConfigError
from buildset_registry.store.base import Purpose

if TYPE_CHECKING:
    from buildset_registry.store.objects.store import ObjectStore

__all__ = ["open_s3"]


async def open_s3(config: Config, purpose: Purpose) -> ObjectStore:
    """Open the bucket that is configured; ``ConfigError`` says why it cannot be used."""
    storage = config.storage
    settings = storage.s3 if isinstance(storage, StorageSettings) else None
    if settings is None:
        raise ConfigError("storage.s3 is missing; set it")
    try:
        # 0.4 s, for whoever has such a store only.
        from buildset_registry.store.objects.store import open_objects
        from buildset_registry.store.s3.access import access_to
        from buildset_registry.store.s3.dialect import S3Dialect
    except ModuleNotFoundError as error:
        raise ConfigError(f"storage.s3 needs {error.name}; install buildset-registry[s3]") from None
    access = await asyncio.to_thread(access_to, settings)
    dialect = S3Dialect(settings, access)
    return await open_objects(dialect, settings.rootdirectory, config, purpose)
