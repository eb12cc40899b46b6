# SPDX-License-Identifier: Apache-2.0
"""The whole store in memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from weakref import WeakValueDictionary

from buildset_registry.oci.names import RepositoryName
from buildset_registry.store.documents import StoredDocument
from buildset_registry.store.holders import Holders
from buildset_registry.store.memory.blobs import MemoryBlobs
from buildset_registry.store.memory.links import MemoryRepository, Noted
from buildset_registry.store.memory.uploads import MemoryUploads
from buildset_registry.store.turns import Turns


class MemoryStore:
    """Everything in dictionaries."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.holders = Holders()
        self.blobs = MemoryBlobs()
        self.uploads = MemoryUploads(self.blobs)
        self.space = MemorySpace(self.blobs)
        self._documents: dict[str, MemoryDocuments] = {}
        #: Those in which something was put; the others end with the last who asks them.
        self._kept: dict[tuple[RepositoryName, bool], MemoryRepository] = {}
        self._used: WeakValueDictionary[tuple[RepositoryName, bool], MemoryRepository]
        self._used = WeakValueDictionary()

    def documents(self, topic: str, *, secret: bool = False) -> MemoryDocuments:
        return self._documents.setdefault(topic, MemoryDocuments())

    def pushed(self, name: RepositoryName) -> MemoryRepository:
        return self._kept.get((name, False)) or self._repository(name, cached=False)

    def cached(self, name: RepositoryName) -> MemoryRepository:
        return self._kept.get((name, True)) or self._repository(name, cached=True)

    async def repositories(self) -> Sequence[RepositoryName]:
        self._kept = {key: one for key, one in self._kept.items() if not one.empty}
        return sorted({key[0] for key, one in self._kept.items() if await one.exists()})

    async def misnamed(self) -> Sequence[RepositoryName]:
        return ()  # no other program comes here

    def _repository(self, name: RepositoryName, *, cached: bool) -> MemoryRepository:
        """Return one of which nobody knew; asking for it keeps nothing."""
        key = (name, cached)
        noted = Noted(lambda: self._kept.update({key: found}), partial(self.holders.add, name))
        made = MemoryRepository(self.blobs, noted, tracked=cached)
        found = self._used.setdefault(key, made)
        return found

    def collecting(self, *, wait: bool) -> AbstractAsyncContextManager[bool]:
        return contextlib.nullcontext(True)  # no other process has it

    async def aclose(self) -> None:
        """Nothing is held that outlives the object."""


class MemoryDocuments:
    """Documents by name."""

    def __init__(self) -> None:
        self._kept: dict[str, StoredDocument] = {}
        self._taken = False

    async def read(self, name: str) -> StoredDocument | None:
        return self._kept.get(name)

    async def write(self, name: str, content: bytes) -> None:
        self._kept[name] = StoredDocument(content, time.time())

    async def remove(self, name: str) -> None:
        self._kept.pop(name, None)

    async def names(self) -> list[str]:
        return list(self._kept)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        if self._taken:
            yield False
            return
        self._taken = True
        try:
            yield True
        finally:
            self._taken = False


class MemorySpace:
    """A storage in memory has no disk, and is always ready."""

    replicas = None

    def __init__(self, blobs: MemoryBlobs) -> None:
        self._blobs = blobs

    async def problem(self) -> str | None:
        return None

    def free(self) -> tuple[int, int] | None:
        return None

    def clock_ahead(self) -> float:
        return 0.0

    async def used(self) -> int:
        return self._blobs.used()
