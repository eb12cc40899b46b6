# SPDX-License-Identifier: Apache-2.0
"""The way from a section of the configuration to a store; it is short where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from buildset_registry.config import Config, StorageSettings
from buildset_registry.errors import ConfigError
from buildset_registry.store.purpose import Purpose

if TYPE_CHECKING:
    from buildset_registry.store.objects.dialect import Dialect
    from buildset_registry.store.objects.store import ObjectStore

#: Imports what a service needs: whatever finds the access that its section tells of, which may
#: wait for other services, and whatever makes a dialect of the section and the access.
Load = Callable[[], "tuple[Callable[[Any], Any], Callable[[Any, Any], Dialect]]"]


async def open_service(
    name: str,
    load: Load,
    config: Config,
    purpose: Purpose,
    root: Callable[[Any], str] = attrgetter("rootdirectory"),
) -> ObjectStore:
    """Open the bucket that ``storage.<name>`` tells of; ``ConfigError`` says why it cannot be used.

    ``root`` returns the folder in it from the section.
    """
    storage = config.storage
    settings = getattr(storage, name) if isinstance(storage, StorageSettings) else None
    if settings is None:
        raise ConfigError(f"storage.{name} is missing; set it")
    try:
        # Half a second, for whoever has such a store only.
        from buildset_registry.store.objects.store import open_objects

        access_to, dialect = load()
    except ModuleNotFoundError as error:
        message = f"storage.{name} needs {error.name}; install buildset-registry[{name}]"
        raise ConfigError(message) from None
    access = await asyncio.to_thread(access_to, settings)
    return await open_objects(dialect(settings, access), root(settings), config, purpose)
