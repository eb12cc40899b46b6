# SPDX-License-Identifier: Apache-2.0
"""The store in a container of Azure Blob Storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildset_registry.config import Config
from buildset_registry.store.objects.opening import open_service
from buildset_registry.store.purpose import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildset_registry.config import AzureSettings
    from buildset_registry.store.azure.access import AzureAccess
    from buildset_registry.store.azure.dialect import AzureDialect
    from buildset_registry.store.objects.store import ObjectStore

__all__ = ["open_azure"]


async def open_azure(config: Config, purpose: Purpose) -> ObjectStore:
    """Open the container that is configured; ``ConfigError`` says why it cannot be used."""
    return await open_service("azure", _load, config, purpose)


def _load() -> tuple[Callable[[AzureSettings], AzureAccess], type[AzureDialect]]:
    from buildset_registry.store.azure.access import access_to
    from buildset_registry.store.azure.dialect import AzureDialect

    return access_to, AzureDialect
