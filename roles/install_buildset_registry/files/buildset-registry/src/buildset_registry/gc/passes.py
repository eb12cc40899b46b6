# SPDX-License-Identifier: Apache-2.0
"""The passes of a collection, in their order, over a store that serves meanwhile.

Nothing goes that a client counts on: whoever is told that a blob is here, or links it, has
it promised first (``Blobs.keep``), and the store removes no blob that was promised within the
grace period, nor one that changed since the collection began. Both are asked again at the moment
of removal, in one step with it. So a push either finds the blob and keeps it, or is told that it is
not here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from buildset_registry.errors import UpstreamBusy, UpstreamFailed
from buildset_registry.gc.images import ImageGraph
from buildset_registry.gc.reachability import Key, ManifestNode, expired, key, mentioned
from buildset_registry.gc.retention import retain
from buildset_registry.gc.state import Collection
from buildset_registry.gc.unlinking import remove_outermost_first, unlink_unused
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.pacing import aside, spread
from buildset_registry.progress import Progress
from buildset_registry.store.base import BlobState, LinkState, RepositoryIndex

#: Subjects of which upstreams are asked in one collection; the others are taken to be there.
_MOST_ASKED = 1000


async def expire_uploads(collection: Collection) -> None:
    """Forget uploads that nobody has continued for long."""
    uploads = collection.store.uploads
    before = collection.began - collection.rules.uploads
    found = await uploads.all(tidy=not collection.report.dry_run)
    async for state in collection.paced("uploads", found):
        if state.changed < before and (collection.report.dry_run or await uploads.expire(state)):
            collection.remove(
                "upload", f"{state.name} {state.id}", f"{state.size} bytes, abandoned"
            )


async def mark_pushed(collection: Collection) -> None:
    """Expire what nothing holds in each repository, and mark what the rest refers to."""
    async for name in collection.paced("repositories", await collection.store.repositories()):
        index = collection.store.pushed(name)
        problems = len(collection.report.problems)
        nodes = await _read(collection, name, index)
        gone: set[Digest] = set()
        # What is damaged may list the others, or be their subject: it may be made whole again.
        if len(collection.report.problems) == problems:
            for digest in await retain(collection, name, nodes):
                del nodes[digest]
            gone = await _expire(collection, name, index, nodes)
        kept = [digest for digest in nodes if digest not in gone]
        await spread(kept, partial(_mark, collection, name, index))


async def mark_misnamed(collection: Collection) -> None:
    """Mark what repositories hold that nobody can ask for by their names.

    Another program may still serve them, or somebody give them a name.
    """
    for name in await collection.store.misnamed():
        collection.report.misnamed.append(name.encode(errors="backslashreplace").decode())
        for index in (collection.store.pushed(name), collection.store.cached(name)):
            for digest in await _read(collection, name, index):
                collection.marked |= await _needed(collection, index, digest)


async def sweep_blobs(collection: Collection) -> None:
    """Remove the blobs that are not marked, and that nobody was promised."""
    if collection.report.problems:
        return
    done = 0

    async def sweep(state: BlobState) -> None:
        if await _sweep(collection, state):
            collection.swept.add(key(state.digest))
            collection.report.blobs += 1
            collection.report.freed_bytes += state.size
        else:
            collection.report.kept_blobs += 1
            collection.report.kept_bytes += state.size
            if collection.retained is not None:
                collection.retained.measure(key(state.digest), state.size)

    async for batch in collection.store.blobs.walk(tidy=not collection.report.dry_run):
        await spread(batch, sweep)
        done += len(batch)
        collection.on_progress(Progress("blobs", done))


async def prune_links(collection: Collection) -> None:
    """Remove the links to blobs that are gone, also those that an earlier collection left.

    And tags that lead nowhere: a process that was killed left them half made.
    """
    if collection.report.problems:
        return
    async for name in collection.paced("links", await collection.store.repositories()):
        for index in (collection.store.pushed(name), collection.store.cached(name)):
            async for state in collection.paced("", await index.layers.all()):
                if key(state.digest) in collection.marked:
                    continue
                if collection.report.dry_run:
                    collection.report.links += key(state.digest) in collection.swept
                else:
                    collection.report.links += await index.layers.prune(state.digest)
            if not collection.report.dry_run:
                await index.tags.prune(collection.began - collection.rules.grace)


async def _read(
    collection: Collection, name: RepositoryName, index: RepositoryIndex
) -> dict[Digest, ManifestNode]:
    """Return the manifests of a repository; one that is missing holds nothing."""
    nodes: dict[Digest, ManifestNode] = {}
    known = collection.retained.read.pop(name, {}) if collection.retained else {}

    async def read(state: LinkState) -> None:
        node = known.get(state.digest)
        if node is not None:  # what it says never changes; it may have been used since
            nodes[state.digest] = replace(node, used=state.used)
            return
        raw = await collection.store.blobs.read(state.digest)
        if raw is None:
            return
        media_type = await index.manifests.media_type(state.digest) or ""
        node = await aside(len(raw), partial(_verified_node, raw, state, media_type))
        if node is None:
            collection.report.problems.append(f"manifest {name}@{state.digest} is damaged")
        else:
            nodes[state.digest] = node

    await spread(await index.manifests.all(), read)
    return nodes


def _verified_node(raw: bytes, state: LinkState, media_type: str) -> ManifestNode | None:
    """Return a manifest as a node; None where the bytes are not what the digest says."""
    if Digest.of(raw, state.digest.algorithm) != state.digest:
        return None
    return parse_node(raw, media_type, state.used)


def parse_node(raw: bytes, media_type: str, used: float) -> ManifestNode:
    """Return a manifest as a node; one that cannot be read refers to nothing."""
    return ManifestNode.of(Manifest.stored(raw, media_type), used)


async def _expire(
    collection: Collection,
    name: RepositoryName,
    index: RepositoryIndex,
    nodes: dict[Digest, ManifestNode],
) -> set[Digest]:
    """Unlink what nothing holds, unless it was pushed again meanwhile; return what is gone."""
    rules = collection.rules
    if rules.untagged is None and not any(one.subject for one in nodes.values()):
        return set()
    # What is pushed by its digest may be listed next, or be the subject of what comes next.
    young = max(rules.grace, rules.settling)
    untagged = None if rules.untagged is None else max(rules.untagged, young)
    untagged_before = None if untagged is None else collection.began - untagged
    tagged, before = await _tagged(collection, index), collection.began - young
    leased = await asyncio.to_thread(collection.leased.of, name, nodes, {})
    tagged |= leased.keys()
    doomed = await asyncio.to_thread(expired, nodes, tagged, untagged_before, before)
    subjects = {subject for digest in doomed if (subject := nodes[digest].subject) is not None}
    if subjects:
        elsewhere = await _living_elsewhere(collection, name, subjects)
        # One whose content is lost has not been deleted: it may be pushed again.
        for subject in subjects - nodes.keys() - elsewhere:
            if await index.manifests.target(subject) is not None:
                elsewhere.add(subject)
        doomed = await asyncio.to_thread(expired, nodes, tagged, untagged_before, before, elsewhere)
    return await _unlink(collection, name, nodes, doomed) if doomed else set()


async def _unlink(
    collection: Collection,
    name: RepositoryName,
    nodes: Mapping[Digest, ManifestNode],
    doomed: Mapping[Digest, str],
) -> set[Digest]:
    """Unlink manifests, unless somebody uses them meanwhile; return what is gone."""
    graph = await asyncio.to_thread(ImageGraph, nodes, {})

    async def unlink(digest: Digest) -> bool:
        return collection.report.dry_run or await unlink_unused(
            collection.store, name, digest, nodes[digest]
        )

    found: set[Digest] = set()
    async for digest in remove_outermost_first(graph, doomed.keys(), unlink):
        collection.remove("manifest", f"{name}@{digest}", doomed[digest])
        found.add(digest)
    return found


async def _living_elsewhere(
    collection: Collection, name: RepositoryName, subjects: Iterable[Digest]
) -> set[Digest]:
    """Return those of a repository's subjects that are cached, at upstream, or under its other
    name.

    A signature is pushed for an image that was pulled through, or that upstream alone has. What a
    job pushed is never removed because a cache was.
    """
    return {
        subject
        async for subject in collection.paced("", sorted(subjects, key=str))
        if await _is_stored(collection, name, subject)
        or await _is_at_upstream(collection, name, subject)
    }


async def _is_stored(collection: Collection, name: RepositoryName, subject: Digest) -> bool:
    store = collection.store
    others = [store.pushed(one) for one in name.names if one != name]
    for index in (*others, store.cached(name.canonical)):
        # Not ``has``, which would count as a use of what is cached.
        if await index.manifests.target(subject) is not None:
            return True
    return False


async def _is_at_upstream(collection: Collection, name: RepositoryName, subject: Digest) -> bool:
    """Ask upstream; one that cannot be asked, or was asked enough, may have it."""
    if name.host in collection.silent or collection.asked >= _MOST_ASKED:
        return True
    collection.asked += 1
    try:
        return await collection.at_upstream(name, subject)
    except (UpstreamFailed, UpstreamBusy):
        collection.silent.add(name.host)
        return True


async def _tagged(collection: Collection, index: RepositoryIndex) -> set[Digest]:
    found = set()

    async def look(tag: Tag) -> None:
        target = await index.tags.get(tag)
        if target is not None:
            found.add(target.digest)

    await spread(await index.tags.all(), look)
    return found


async def _mark(
    collection: Collection, name: RepositoryName, index: RepositoryIndex, digest: Digest
) -> None:
    keys = await _needed(collection, index, digest)
    collection.marked |= keys
    if collection.retained is not None:
        collection.retained.count(name, keys)


async def _needed(collection: Collection, index: RepositoryIndex, digest: Digest) -> set[Key]:
    """Return a manifest, and the blobs that it mentions."""
    raw = await collection.store.blobs.read(digest) or b""
    keys, others = await aside(len(raw), partial(_mentions, raw))
    keys.add(key(digest))
    async for one in collection.paced("", others):
        # distribution stores by sha256 what was pushed by another algorithm.
        keys.add(key(await index.layers.target(one) or one))
    return keys


def _mentions(raw: bytes) -> tuple[set[Key], list[Digest]]:
    """Return what a manifest mentions in its short form, and those not by sha256 as they are."""
    found = mentioned(raw)
    return set(map(key, found)), [one for one in found if one.algorithm != "sha256"]


async def _sweep(collection: Collection, state: BlobState) -> bool:
    promised_before = collection.began - collection.rules.grace
    changed_before = collection.began - collection.rules.settling
    if (
        key(state.digest) in collection.marked
        or state.promised >= promised_before
        or state.changed >= changed_before
    ):
        return False
    if collection.report.dry_run:
        return True
    return await collection.store.blobs.sweep(state.digest, promised_before, changed_before)
