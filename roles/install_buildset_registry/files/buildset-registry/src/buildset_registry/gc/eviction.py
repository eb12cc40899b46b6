# SPDX-License-Identifier: Apache-2.0
"""Eviction of upstreams' content: the cache is cut to its size, and what stays is marked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from buildset_registry.gc.passes import parse_node
from buildset_registry.gc.reachability import Key, ManifestNode, key, mentioned
from buildset_registry.gc.state import Collection
from buildset_registry.manifest_links import unlink_manifest, untag
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.pacing import aside


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A part of the cache that goes as a whole: a manifest with its layers, or a layer alone."""

    name: str
    """The repository."""

    digest: Digest
    layers: tuple[Digest, ...]
    children: tuple[Digest, ...]
    subject: Digest | None
    used: float
    """The time when it, or a layer of it, was last used."""

    @property
    def keys(self) -> Iterator[Key]:
        """The digests that it holds, in their short form."""
        return map(key, {self.digest, *self.layers})


def evictions(
    entries: Iterable[CacheEntry], sizes: Mapping[Key, int], limit: int, used_before: float
) -> list[CacheEntry]:
    """Return what has to go, the longest unused first, until ``sizes`` add up to ``limit``.

    Content counts once however many entries hold it, and goes with the last of them; what
    ``sizes`` leaves out costs nothing (a job pushed it, too). What was used since
    ``used_before`` may be in the middle of a pull, and stays.
    """
    entries = _with_parents(list(entries))
    holders = Counter(one for entry in entries for one in entry.keys)
    total = sum(sizes.get(one, 0) for one in holders)
    gone = []
    for entry in sorted(entries, key=lambda entry: entry.used):
        if total <= limit or entry.used >= used_before:
            break
        gone.append(entry)
        for one in entry.keys:
            holders[one] -= 1
            if not holders[one]:
                total -= sizes.get(one, 0)
    return gone


def _with_parents(entries: list[CacheEntry]) -> list[CacheEntry]:
    """Let an image be as recently used as the index that a client found it by."""
    parents: dict[tuple[str, Digest], float] = {}
    for entry in entries:
        for child in entry.children:
            youngest = parents.get((entry.name, child), 0.0)
            parents[entry.name, child] = max(youngest, entry.used)
    return [
        replace(entry, used=max(entry.used, parents.get((entry.name, entry.digest), 0.0)))
        for entry in entries
    ]


async def mark_cached(collection: Collection) -> None:
    """Evict what is too much, and mark what the rest of the cache holds."""
    entries = await _survey(collection)
    gone: list[CacheEntry] = []
    if collection.rules.cache_size is not None:
        sizes = await _sizes(collection, entries)
        limit, before = collection.rules.cache_size, collection.began - collection.rules.pulling
        gone = await asyncio.to_thread(evictions, entries, sizes, limit, before)
    remaining = _Remaining(entries, gone)
    async for entry in collection.paced("eviction", gone):
        if collection.report.dry_run or await _evict(collection, entry, remaining):
            collection.remove("cached", f"{entry.name}@{entry.digest}", "the cache is too large")
        else:
            collection.marked.update(entry.keys)
    async for entry in collection.paced("", remaining.entries):
        collection.marked.update(entry.keys)


async def _survey(collection: Collection) -> list[CacheEntry]:
    entries: list[CacheEntry] = []
    async for name in collection.paced("cache", await collection.store.repositories()):
        entries += await _entries(collection, name)
    return entries


async def _sizes(collection: Collection, entries: list[CacheEntry]) -> dict[Key, int]:
    """Return the sizes of what only the cache holds."""
    sizes = {}
    async for entry in collection.paced("", entries):
        for digest in (entry.digest, *entry.layers):
            if key(digest) not in collection.marked:
                sizes[key(digest)] = await collection.store.blobs.size(digest) or 0
    return sizes


class _Remaining:
    """The part of the cache that stays, and the layers that it needs in each repository."""

    def __init__(self, entries: list[CacheEntry], gone: list[CacheEntry]) -> None:
        doomed = {(entry.name, entry.digest) for entry in gone}
        self.entries = [entry for entry in entries if (entry.name, entry.digest) not in doomed]
        self.layers = {(entry.name, layer) for entry in self.entries for layer in entry.layers}


async def _entries(collection: Collection, name: RepositoryName) -> list[CacheEntry]:
    """Return what is cached of a repository; a layer of several images is in each of them."""
    index = collection.store.cached(name)
    layers = {state.digest: state.used for state in await index.layers.all()}
    loose = dict(layers)
    entries = []
    async for state in collection.paced("", await index.manifests.all()):
        raw = await collection.store.blobs.read(state.digest) or b""
        media_type = await index.manifests.media_type(state.digest) or ""
        read = partial(_read, raw, media_type, state.used, layers)
        node, held = await aside(len(raw), read)
        for digest in held:
            loose.pop(digest, None)
        used = max([state.used, *(layers[digest] for digest in held)])
        entries.append(CacheEntry(name, state.digest, held, node.children, node.subject, used))
    entries += [CacheEntry(name, digest, (), (), None, used) for digest, used in loose.items()]
    return entries


def _read(
    raw: bytes, media_type: str, used: float, layers: Mapping[Digest, float]
) -> tuple[ManifestNode, tuple[Digest, ...]]:
    """Return a manifest as a node, and those of the layers that it needs."""
    held = tuple(digest for digest in mentioned(raw) if digest in layers)
    return parse_node(raw, media_type, used), held


async def _evict(collection: Collection, entry: CacheEntry, remaining: _Remaining) -> bool:
    """Unlink an entry, unless it was used meanwhile."""
    name = RepositoryName(entry.name)
    index = collection.store.cached(name)
    before = collection.began - collection.rules.pulling
    if await index.layers.expire(entry.digest, before):
        return True
    async with collection.store.turns.manifest(name, entry.digest):
        if not await unlink_manifest(index, entry.digest, entry.subject, before):
            return False
        await untag(collection.store, name, index, entry.digest)
    for layer in entry.layers:
        needed = (entry.name, layer) in remaining.layers
        if not needed and not await index.layers.expire(layer, before):
            collection.marked.add(key(layer))
    return True
