# SPDX-License-Identifier: Apache-2.0
"""The store in memory: the whole contract in its shortest form, for tests and throw-away."""

from __future__ import annotations

from buildset_registry.config import Config
from buildset_registry.errors import ConfigError
from buildset_registry.store.memory.store import MemoryStore
from buildset_registry.store.purpose import Purpose

__all__ = ["MemoryStore", "open_memory"]


async def open_memory(_config: Config, purpose: Purpose) -> MemoryStore:
    """Return an empty store; no command finds what a server has in its memory."""
    if purpose is not Purpose.SERVE:
        raise ConfigError("the registry keeps everything in memory: there is no folder")
    return MemoryStore()
