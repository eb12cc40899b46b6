# SPDX-License-Identifier: Apache-2.0
"""Repair of what ``verify`` found: made whole from what is there, or else taken out of the store.

What is taken out can be pushed again, and is fetched again where upstream has it. The caller has
the store for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from buildset_registry.manifest_links import delete_links
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.progress import ProgressCallback
from buildset_registry.store.base import Store
from buildset_registry.verify import Findings, Problem, verify

#: What is taken out leaves holes in what refers to it, which the next round finds.
_ROUNDS = 4
_FOR_EVER = float("inf")


@dataclass(frozen=True, slots=True)
class Repaired:
    """A problem, and what was done about it: ``mended`` or ``removed``."""

    problem: Problem
    done: str


async def verify_and_repair(
    store: Store, on_progress: ProgressCallback, *, sparse: bool
) -> tuple[Findings, list[Repaired]]:
    """Repair until nothing is broken; return what is left, and all that was done."""
    repaired: list[Repaired] = []
    findings = await verify(store, on_progress, sparse=sparse, pause=0)
    for _round in range(_ROUNDS):
        if not findings.problems:
            break
        done = await _repair(store, findings.problems)
        if not done:
            break
        repaired += done
        findings = await verify(store, on_progress, sparse=sparse, pause=0)
    return findings, repaired


async def _repair(store: Store, problems: Sequence[Problem]) -> list[Repaired]:
    """Take each in turn, blobs first: what needs them is mended by what is whole.

    What could not be read is left as it is: it may be whole, and read the next time.
    """
    ways = {"blob": _blob, "layer": _layer, "image": _image, "tag": _tag}
    done = []
    for kind, way in ways.items():
        for problem in problems:
            if problem.kind == kind and not problem.unread:
                done.append(Repaired(problem, "mended" if await way(store, problem) else "removed"))
    return done


async def _blob(store: Store, problem: Problem) -> bool:
    """Remove damaged content: nobody can pull it."""
    await store.blobs.sweep(Digest.parse(problem.name), _FOR_EVER, _FOR_EVER)
    return False


async def _layer(store: Store, problem: Problem) -> bool:
    """Make a link again if what it is named after is there."""
    name, digest = _named(problem)
    layers = store.pushed(name).layers
    if await store.blobs.size(digest) is None:
        await layers.remove(digest)
        return False
    await layers.add(digest)
    return True


async def _image(store: Store, problem: Problem) -> bool:
    """Make the links of an image again; remove one that lacks content, with its tags."""
    name, digest = _named(problem)
    index = store.pushed(name)
    raw = await store.blobs.read(digest)
    if raw is not None:
        # By whatever rules it was taken in, as verify has read it: another program's schema 1, too.
        media_type = await index.manifests.media_type(digest) or ""
        manifest = Manifest.stored(raw, media_type, digest.algorithm)
        whole = True
        for blob in manifest.blobs:
            if await store.blobs.size(blob.digest) is not None:
                await index.layers.add(blob.digest)
            else:
                target = await index.layers.target(blob.digest)
                whole &= target is not None and await store.blobs.size(target) is not None
        if whole:
            await index.manifests.add(digest)
            return True
    await delete_links(store, name, index, digest)
    return False


async def _tag(store: Store, problem: Problem) -> bool:
    """Remove a tag that leads nowhere."""
    name, _colon, tag = problem.name.rpartition(":")
    await store.pushed(RepositoryName.parse(name)).tags.remove(Tag.parse(tag))
    return False


def _named(problem: Problem) -> tuple[RepositoryName, Digest]:
    name, _at, digest = problem.name.partition("@")
    return RepositoryName.parse(name), Digest.parse(digest)
