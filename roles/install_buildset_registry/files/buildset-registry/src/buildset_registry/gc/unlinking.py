# SPDX-License-Identifier: Apache-2.0
"""Manifests that go from a repository while it serves: each before what is part of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import TypeVar

from buildset_registry.gc.images import ImageGraph
from buildset_registry.gc.reachability import ManifestNode
from buildset_registry.manifest_links import unlink_manifest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.parallel import together
from buildset_registry.store.base import Store

_Item = TypeVar("_Item")

#: Removals at once: each waits for a disk or a service.
_AT_ONCE = 16
#: Times of links differ by more than this, or not at all.
_INSTANT = 1e-6


async def unlink_unused(
    store: Store, name: RepositoryName, digest: Digest, node: ManifestNode
) -> bool:
    """Unlink a manifest, unless it was used since it was looked at."""
    async with store.turns.manifest(name, digest):
        return await unlink_manifest(store.pushed(name), digest, node.subject, node.used + _INSTANT)


async def remove_outermost_first(
    graph: ImageGraph,
    going: AbstractSet[Digest],
    remove: Callable[[Digest], Awaitable[bool]],
    held: Iterable[Digest] = (),
) -> AsyncIterator[Digest]:
    """Remove manifests, and yield those that are gone; ``held`` ones stay.

    What somebody uses meanwhile stays with all that is part of it: the client that has an index
    comes for what it lists.
    """
    staying = set(held)
    for digests in await asyncio.to_thread(list, graph.outermost_first(going - staying)):
        some = [digest for digest in digests if digest not in staying]
        async for digest, removed in in_batches(some, remove):
            if removed:
                yield digest
            else:
                staying.update(graph.whole([digest]))


async def in_batches(
    items: Sequence[_Item], work: Callable[[_Item], Awaitable[bool]]
) -> AsyncIterator[tuple[_Item, bool]]:
    """Do the same with some things at once, and yield each with the outcome."""
    for start in range(0, len(items), _AT_ONCE):
        some = items[start : start + _AT_ONCE]
        for item, outcome in zip(some, await together(some, work, _AT_ONCE), strict=True):
            yield item, outcome
