# SPDX-License-Identifier: Apache-2.0
"""Turns: who changes a manifest or a tag of a repository has it for itself, in one order for all.

A tag is right only together with the manifest that it points to, and a manifest with its note as
somebody's referrer. Each of them is changed at once and whole, all of them together are not: so
whoever changes what depends on another one takes turns, whatever way it came (an endpoint, a pull
through, the collector). A manifest's turn comes before those of tags, and tags' in their order, so
that nobody waits for somebody who waits for him.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag


class Turns:
    """The turns of one store; a lock lasts as long as somebody holds or awaits it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def manifest(
        self, name: RepositoryName, digest: Digest, tags: Iterable[Tag] = ()
    ) -> AsyncIterator[None]:
        """Have a manifest, and tags that are to point to it, for oneself."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._lock(name, str(digest)))
            for tag in sorted(set(tags)):
                await stack.enter_async_context(self.tag(name, tag))
            yield

    def tag(self, name: RepositoryName, tag: Tag) -> asyncio.Lock:
        """Return what gives one a tag; who has a tag takes no other turn before it let go."""
        return self._lock(name, tag)

    def _lock(self, name: RepositoryName, key: str) -> asyncio.Lock:
        """Return a lock; the names of one repository of Docker Hub are one to it."""
        return self._locks.setdefault((name.canonical, key), asyncio.Lock())
