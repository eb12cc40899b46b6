# SPDX-License-Identifier: Apache-2.0
"""The store in a bucket of Alibaba Cloud OSS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildset_registry.config import Config
from buildset_registry.store.objects.opening import open_service
from buildset_registry.store.purpose import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildset_registry.config import OssSettings
    from buildset_registry.store.objects.store import ObjectStore
    from buildset_registry.store.oss.access import OssAccess
    from buildset_registry.store.oss.dialect import OssDialect

__all__ = ["open_oss"]


async def open_oss(config: Config, purpose: Purpose) -> ObjectStore:
    """Open the bucket that is configured; ``ConfigError`` says why it cannot be used."""
    return await open_service("oss", _load, config, purpose)


def _load() -> tuple[Callable[[OssSettings], OssAccess], type[OssDialect]]:
    from buildset_registry.store.oss.access import access_to
    from buildset_registry.store.oss.dialect import OssDialect

    return access_to, OssDialect
