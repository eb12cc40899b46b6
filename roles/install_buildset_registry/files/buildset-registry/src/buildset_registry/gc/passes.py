# SPDX-License-Identifier: Apache-2.0
"""The passes of a collection, in their order, over a store that serves meanwhile.

Why nothing goes that a client counts on: whoever is told that a blob is here, or links it, has
it promised first (``Blobs.keep``), and the store removes no blob that was promised within the
grace period, nor one that changed since the collection began. Both are asked again at the moment
of removal, in one step with it. So a push either finds the blob and keeps it, or is told that it is
not here.
"""

from __future__ import annotations

from buildset_registry.errors import RegistryError
from buildset_registry.gc.reachability import Node, expired, key, mentioned
from buildset_registry.gc.report import Progress
from buildset_registry.gc.state import Run
from buildset_registry.lookup import unlink_manifest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.store.base import BlobState, RepositoryIndex

#: Times of files differ by more than this, or not at all.
_INSTANT = 1e-6


async def expire_uploads(run: Run) -> None:
    """Forget uploads that nobody has continued for long."""
    uploads = run.store.uploads
    before = run.began - run.rules.uploads
    async for state in run.paced("uploads", await uploads.all()):
        if state.changed < before and (run.report.dry_run or await uploads.expire(state)):
            run.remove("upload", f"{state.name} {state.id}", f"{state.size} bytes, abandoned")


async def mark_pushed(run: Run) -> None:
    """Expire what nothing holds in each repository, and mark what the rest refers to."""
    async for name in run.paced("repositories", await run.store.repositories()):
        index = run.store.pushed(name)
        nodes = await _read(run, name, index)
        gone = await _expire(run, name, index, nodes)
        async for digest in run.paced("", [digest for digest in nodes if digest not in gone]):
            await _mark(run, index, digest)


async def sweep_blobs(run: Run) -> None:
    """Remove the blobs that are not marked, and that nobody was promised."""
    if run.report.problems:
        return
    done = 0
    async for batch in run.store.blobs.walk():
        for state in batch:
            if await _sweep(run, state):
                run.swept.add(key(state.digest))
                run.report.blobs += 1
                run.report.freed_bytes += state.size
            else:
                run.report.kept_blobs += 1
                run.report.kept_bytes += state.size
        done += len(batch)
        run.watch(Progress("blobs", done))


async def prune_links(run: Run) -> None:
    """Remove the links to blobs that are gone, also those that an earlier run left."""
    if run.report.problems:
        return
    async for name in run.paced("links", await run.store.repositories()):
        for index in (run.store.pushed(name), run.store.cached(name)):
            for state in await index.layers.all():
                if key(state.digest) in run.marked:
                    continue
                if run.report.dry_run:
                    run.report.links += key(state.digest) in run.swept
                else:
                    run.report.links += await index.layers.prune(state.digest)


async def _read(run: Run, name: RepositoryName, index: RepositoryIndex) -> dict[Digest, Node]:
    """Return the manifests of a repository; one that is missing has nothing left to be kept."""
    nodes = {}
    async for state in run.paced("", await index.manifests.all()):
        raw = await run.store.blobs.read(state.digest)
        if raw is None:
            continue
        if Digest.of(raw, state.digest.algorithm) != state.digest:
            run.report.problems.append(f"manifest {name}@{state.digest} is damaged")
            continue
        media_type = await index.manifests.media_type(state.digest) or ""
        nodes[state.digest] = node(raw, media_type, state.used)
    return nodes


def node(raw: bytes, media_type: str, used: float) -> Node:
    """Return what decides about a manifest; one that we cannot read refers to nothing."""
    try:
        manifest = Manifest.parse(raw, media_type)
    except RegistryError:
        return Node((), None, used)
    children = tuple(child.digest for child in manifest.manifests)
    return Node(children, manifest.subject.digest if manifest.subject else None, used)


async def _expire(
    run: Run, name: RepositoryName, index: RepositoryIndex, nodes: dict[Digest, Node]
) -> set[Digest]:
    """Unlink what nothing holds, unless it was pushed again meanwhile; return what is gone."""
    rules = run.rules
    if rules.untagged is None and not any(node.subject for node in nodes.values()):
        return set()
    untagged_before = None if rules.untagged is None else run.began - rules.untagged
    doomed = expired(nodes, await _tagged(run, index), untagged_before, run.began - rules.grace)
    gone = set()
    for digest, reason in doomed.items():
        node = nodes[digest]
        before = node.used + _INSTANT
        if run.report.dry_run or await unlink_manifest(index, digest, node.subject, before):
            run.remove("manifest", f"{name}@{digest}", reason)
            gone.add(digest)
    return gone


async def _tagged(run: Run, index: RepositoryIndex) -> set[Digest]:
    found = set()
    async for tag in run.paced("", await index.tags.all()):
        target = await index.tags.get(tag)
        if target is not None:
            found.add(target.digest)
    return found


async def _mark(run: Run, index: RepositoryIndex, digest: Digest) -> None:
    run.marked.add(key(digest))
    for one in mentioned(await run.store.blobs.read(digest) or b""):
        run.marked.add(key(one))
        if one.algorithm != "sha256":
            # distribution stores by sha256 what was pushed by another algorithm.
            run.marked.add(key(await index.layers.target(one) or one))


async def _sweep(run: Run, state: BlobState) -> bool:
    promised_before = run.began - run.rules.grace
    changed_before = run.began - run.rules.settling
    if (
        key(state.digest) in run.marked
        or state.promised >= promised_before
        or state.changed >= changed_before
    ):
        return False
    if run.report.dry_run:
        return True
    return await run.store.blobs.sweep(state.digest, promised_before, changed_before)
