# SPDX-License-Identifier: Apache-2.0
"""The store in a local folder: in distribution's layout, durable by a write-ahead log."""

from __future__ import annotations

from pathlib import Path

from buildset_registry.config import Config
from buildset_registry.errors import ConfigError
from buildset_registry.store.filesystem import layout
from buildset_registry.store.filesystem.disk import ReadingDisk
from buildset_registry.store.filesystem.store import FilesystemStore
from buildset_registry.store.purpose import Purpose

__all__ = ["FilesystemStore", "control_socket", "open_filesystem"]


async def open_filesystem(config: Config, purpose: Purpose) -> FilesystemStore:
    """Open the folder that is configured; only a server makes it."""
    storage = _folder(config)
    if purpose is Purpose.SERVE:
        return FilesystemStore(storage, config.limits.free_bytes, durable=config.durable)
    if not storage.is_dir():
        raise ConfigError(f"there is no {storage}; the registry has stored nothing yet")
    if purpose is Purpose.READ:
        return FilesystemStore(storage, disk=ReadingDisk(storage))
    return FilesystemStore(storage)


def control_socket(config: Config) -> Path:
    """Return the socket of the server that has the folder."""
    return layout.control(_folder(config))


def _folder(config: Config) -> Path:
    return config.storage if isinstance(config.storage, Path) else Path(str(config.storage))
