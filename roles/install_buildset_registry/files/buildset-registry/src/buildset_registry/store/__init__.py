# SPDX-License-Identifier: Apache-2.0
"""Stores of bytes and names: the contract in ``base``, and a module or package for each kind.

A new kind is its package and a row of ``STORES``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from buildset_registry.config import Config, StorageSettings
from buildset_registry.store.azure import open_azure
from buildset_registry.store.base import Store
from buildset_registry.store.filesystem import control_socket, open_filesystem
from buildset_registry.store.gcs import open_gcs
from buildset_registry.store.memory import open_memory
from buildset_registry.store.oss import open_oss
from buildset_registry.store.purpose import Purpose
from buildset_registry.store.s3 import open_s3
from buildset_registry.store.swift import open_swift

__all__ = ["STORES", "Purpose", "StoreKind", "open_store", "store_kind"]


def _no_socket(_config: Config) -> Path | None:
    return None


@dataclass(frozen=True, slots=True)
class StoreKind:
    """A kind of store: the way to open it, and what commands have to know of it."""

    open: Callable[[Config, Purpose], Awaitable[Store]]
    """Opens it, or raises ``ConfigError``; ``StoreInUse`` where another process has it."""

    alone: bool = False
    """Whether one process has it, and no other one beside it."""

    lasting: bool = True
    """Whether what is stored outlives the server, so that commands find it."""

    control_socket: Callable[[Config], Path | None] = _no_socket
    """Returns the socket at which commands ask the server that alone may change the store; None
    where they may change it themselves."""


#: By the word that ``storage`` is, or the service that it names; a path is a ``filesystem``.
STORES: Mapping[str, StoreKind] = {
    "filesystem": StoreKind(open_filesystem, alone=True, control_socket=control_socket),
    "memory": StoreKind(open_memory, alone=True, lasting=False),
    "azure": StoreKind(open_azure),
    "gcs": StoreKind(open_gcs),
    "oss": StoreKind(open_oss),
    "s3": StoreKind(open_s3),
    "swift": StoreKind(open_swift),
}


def store_kind(config: Config) -> StoreKind:
    """Return the kind of store that is configured."""
    storage = config.storage
    if isinstance(storage, StorageSettings):
        return STORES[storage.services[0]]
    return STORES["filesystem" if isinstance(storage, Path) else storage]


async def open_store(config: Config, purpose: Purpose = Purpose.SERVE) -> Store:
    """Open the store that is configured; ``aclose`` it at the end."""
    return await store_kind(config).open(config, purpose)
