# SPDX-License-Identifier: Apache-2.0
"""Room for quotas: the images that have to go, the longest unused first, of those no rule keeps."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from buildset_registry.gc.images import ImageGraph, judgements
from buildset_registry.gc.reachability import Key, ManifestNode, key
from buildset_registry.gc.retention import image_graph
from buildset_registry.gc.state import Collection, Retained
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.pacing import aside, spread
from buildset_registry.retention import Quota, RetentionRun
from buildset_registry.retention.rules import PULLING, Judgement, ago
from buildset_registry.store.base import LinkState


@dataclass(frozen=True, slots=True)
class SizedImage:
    """An image with the tags that lead to it, and what it needs."""

    name: RepositoryName
    tags: Sequence[Tag]
    sizes: dict[Key, int]
    used: float
    """For how many seconds nobody has used it."""

    may_go: bool
    """Whether no rule keeps any of its tags."""


async def make_room(collection: Collection) -> None:
    """Choose the images that are too many for the soft quotas; the rules' pass removes them."""
    retained = collection.retained
    if retained is None:
        return
    quotas = [quota for quota in retained.run.policy.quotas if quota.soft is not None]
    if not quotas:
        return
    images: list[SizedImage] = []
    async for name in collection.paced("quotas", await collection.store.repositories()):
        if any(quota.governs(name) for quota in quotas):
            images += await _survey(collection, retained, name)
    of_quota = {
        quota.prefix: [image for image in images if quota.governs(image.name)] for quota in quotas
    }
    gone: set[int] = set()
    # The narrow ones first: what goes for one of them makes room for a wider one, too.
    for quota in sorted(quotas, key=lambda quota: len(of_quota[quota.prefix])):
        left = [image for image in of_quota[quota.prefix] if id(image) not in gone]
        for image in await asyncio.to_thread(surplus, left, quota.soft or 0):
            gone.add(id(image))
            crowded = retained.crowded.setdefault(image.name, {})
            for tag in image.tags:
                crowded[tag] = _verdict(quota, image)


def surplus(images: Iterable[SizedImage], limit: int) -> list[SizedImage]:
    """Return what has to go, the longest unused first, until the rest takes ``limit`` bytes.

    Content counts once however many images need it, and goes with the last of them.
    """
    images = list(images)
    holders = Counter(one for image in images for one in image.sizes)
    sizes = {one: size for image in images for one, size in image.sizes.items()}
    total = sum(sizes.values())
    gone = []
    for image in sorted(images, key=lambda image: -image.used):
        if total <= limit:
            break
        if not image.may_go or image.used < PULLING:
            continue
        gone.append(image)
        for one in image.sizes:
            holders[one] -= 1
            if not holders[one]:
                total -= sizes[one]
    return gone


def _verdict(quota: Quota, image: SizedImage) -> Judgement:
    reason = f"the longest unused, last {ago(image.used)}, past {quota.soft} bytes"
    return Judgement(False, f"the quota of {quota.prefix}", reason)


async def _survey(
    collection: Collection, retained: Retained, name: RepositoryName
) -> list[SizedImage]:
    """Return the images of a repository, and as one that stays those that have no tag."""
    nodes, sizes = await _read(collection, name)
    retained.read[name] = nodes
    graph = await image_graph(collection, name, nodes)
    return await asyncio.to_thread(_images, name, graph, sizes, retained.run)


def _images(
    name: RepositoryName,
    graph: ImageGraph,
    sizes: Mapping[Digest, Mapping[Key, int]],
    run: RetentionRun,
) -> list[SizedImage]:
    judged, verdicts = judgements(graph, run, run.rules(name))
    ages = {one.tag: one for one in judged}
    by_digest: dict[Digest, list[Tag]] = {}
    for tag in ages:
        by_digest.setdefault(graph.tags[tag].digest, []).append(tag)
    found: list[SizedImage] = []
    seen: set[Digest] = set()
    for digest, tags in by_digest.items():
        parts = graph.whole([digest])
        seen.update(parts)
        if not any(verdicts[tag].kept for tag in tags):
            continue  # it goes by a rule, and makes room for the others
        needed = {one: size for part in parts for one, size in sizes[part].items()}
        may_go = not any(verdicts[tag].kept and verdicts[tag].rule for tag in tags)
        used = min(ages[tag].used for tag in tags)
        found.append(SizedImage(name, tags, needed, used, may_go))
    others = {one: size for part in graph.nodes.keys() - seen for one, size in sizes[part].items()}
    return [*found, SizedImage(name, (), others, 0.0, False)]


async def _read(
    collection: Collection, name: RepositoryName
) -> tuple[dict[Digest, ManifestNode], dict[Digest, dict[Key, int]]]:
    """Return the manifests of a repository, and the sizes of what each of them needs."""
    index = collection.store.pushed(name)
    nodes: dict[Digest, ManifestNode] = {}
    sizes: dict[Digest, dict[Key, int]] = {}

    async def read(state: LinkState) -> None:
        raw = await collection.store.blobs.read(state.digest)
        if raw is None:
            return
        media_type = await index.manifests.media_type(state.digest) or ""
        work = partial(_sized, raw, media_type, state.digest, state.used)
        found = await aside(len(raw), work)
        if found is not None:  # the mark pass tells of what is damaged
            nodes[state.digest], sizes[state.digest] = found

    await spread(await index.manifests.all(), read)
    return nodes, sizes


def _sized(
    raw: bytes, media_type: str, digest: Digest, used: float
) -> tuple[ManifestNode, dict[Key, int]] | None:
    """Return a manifest as a node, and what it needs; None where it is damaged."""
    if Digest.of(raw, digest.algorithm) != digest:
        return None
    manifest = Manifest.stored(raw, media_type)
    needed = {key(digest): len(raw)} | {key(blob.digest): blob.size for blob in manifest.blobs}
    return ManifestNode.of(manifest, used), needed
