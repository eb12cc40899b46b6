# SPDX-License-Identifier: Apache-2.0
"""The store in a bucket of Google Cloud Storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildset_registry.config import Config
from buildset_registry.store.objects.opening import open_service
from buildset_registry.store.purpose import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildset_registry.config import GcsSettings
    from buildset_registry.store.gcs.access import GcsAccess
    from buildset_registry.store.gcs.dialect import GcsDialect
    from buildset_registry.store.objects.store import ObjectStore

__all__ = ["open_gcs"]


async def open_gcs(config: Config, purpose: Purpose) -> ObjectStore:
    """Open the bucket that is configured; ``ConfigError`` says why it cannot be used."""
    return await open_service("gcs", _load, config, purpose)


def _load() -> tuple[Callable[[GcsSettings], GcsAccess], type[GcsDialect]]:
    from buildset_registry.store.gcs.access import access_to
    from buildset_registry.store.gcs.dialect import GcsDialect

    return access_to, GcsDialect
