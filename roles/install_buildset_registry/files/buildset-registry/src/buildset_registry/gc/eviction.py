# SPDX-License-Identifier: Apache-2.0
"""The cache of upstreams' content: marked as it is, or cut to its size first."""

from __future__ import annotations

from buildset_registry.gc.passes import node
from buildset_registry.gc.reachability import Key, Unit, evictions, key, mentioned
from buildset_registry.gc.state import Run
from buildset_registry.lookup import unlink_manifest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.store.base import RepositoryIndex


async def mark_cached(run: Run) -> None:
    """Evict what is too much, and mark what the rest of the cache links."""
    units = await _survey(run)
    gone: list[Unit] = []
    if run.rules.cache_size is not None:
        sizes = await _sizes(run, units)
        gone = evictions(units, sizes, run.rules.cache_size, run.began - run.rules.pulling)
    kept = _Kept(units, gone)
    async for unit in run.paced("eviction", gone):
        if run.report.dry_run or await _evict(run, unit, kept):
            run.remove("cached", f"{unit.name}@{unit.digest}", "the cache is too large")
        else:
            run.marked.update(unit.keys)
    for unit in kept.units:
        run.marked.update(unit.keys)


async def _survey(run: Run) -> list[Unit]:
    units: list[Unit] = []
    async for name in run.paced("cache", await run.store.repositories()):
        units += await _units(run, name)
    return units


async def _sizes(run: Run, units: list[Unit]) -> dict[Key, int]:
    """Return the sizes of what only the cache holds."""
    sizes = {}
    async for unit in run.paced("", units):
        for digest in (unit.digest, *unit.layers):
            if key(digest) not in run.marked:
                sizes[key(digest)] = await run.store.blobs.size(digest) or 0
    return sizes


class _Kept:
    """What stays of the cache, and which layers it needs in each repository."""

    def __init__(self, units: list[Unit], gone: list[Unit]) -> None:
        doomed = {(unit.name, unit.digest) for unit in gone}
        self.units = [unit for unit in units if (unit.name, unit.digest) not in doomed]
        self.layers = {(unit.name, layer) for unit in self.units for layer in unit.layers}


async def _units(run: Run, name: RepositoryName) -> list[Unit]:
    """Return what is cached of a repository; a layer of several images is in each of them."""
    index = run.store.cached(name)
    layers = {state.digest: state.used for state in await index.layers.all()}
    loose = dict(layers)
    units = []
    for state in await index.manifests.all():
        raw = await run.store.blobs.read(state.digest) or b""
        needed = mentioned(raw)
        held = tuple(digest for digest in needed if digest in layers)
        for digest in held:
            loose.pop(digest, None)
        used = max([state.used, *(layers[digest] for digest in held)])
        facts = node(raw, await index.manifests.media_type(state.digest) or "", state.used)
        units.append(Unit(name, state.digest, held, facts.children, facts.subject, used))
    units += [Unit(name, digest, (), (), None, used) for digest, used in loose.items()]
    return units


async def _evict(run: Run, unit: Unit, kept: _Kept) -> bool:
    """Unlink a unit, unless it was used meanwhile."""
    name = RepositoryName(unit.name)
    index = run.store.cached(name)
    before = run.began - run.rules.pulling
    if await index.layers.expire(unit.digest, before):
        return True
    if not await unlink_manifest(index, unit.digest, unit.subject, before):
        return False
    await _untag(index, unit.digest)
    for layer in unit.layers:
        needed = (unit.name, layer) in kept.layers
        if not needed and not await index.layers.expire(layer, before):
            run.marked.add(key(layer))
    return True


async def _untag(index: RepositoryIndex, digest: Digest) -> None:
    for tag in await index.tags.all():
        target = await index.tags.get(tag)
        if target is not None and target.digest == digest:
            await index.tags.remove(tag)
