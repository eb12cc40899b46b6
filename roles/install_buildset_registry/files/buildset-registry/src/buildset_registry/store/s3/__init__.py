# SPDX-License-Identifier: Apache-2.0
"""The store in a bucket of Amazon S3, or of another service that speaks as it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildset_registry.config import Config
from buildset_registry.store.objects.opening import open_service
from buildset_registry.store.purpose import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildset_registry.config import S3Settings
    from buildset_registry.store.objects.store import ObjectStore
    from buildset_registry.store.s3.access import S3Access
    from buildset_registry.store.s3.dialect import S3Dialect

__all__ = ["open_s3"]


async def open_s3(config: Config, purpose: Purpose) -> ObjectStore:
    """Open the bucket that is configured; ``ConfigError`` says why it cannot be used."""
    return await open_service("s3", _load, config, purpose)


def _load() -> tuple[Callable[[S3Settings], S3Access], type[S3Dialect]]:
    from buildset_registry.store.s3.access import access_to
    from buildset_registry.store.s3.dialect import S3Dialect

    return access_to, S3Dialect
