# SPDX-License-Identifier: Apache-2.0
"""Images that jobs pushed or that were pulled through, and a collection of what nobody needs."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from buildset_registry.errors import BlobUnknown, ManifestUnknown
from buildset_registry.gc import CollectionReport, CollectionRules, collect
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.progress import Progress
from buildset_registry.registry import Registry
from buildset_registry.store.base import Store

from tests.unit.store.blobs import content_of, pieces

NAME, OTHER = RepositoryName("org/app"), RepositoryName("org/other")
#: Everything that is there is old already.
OLD = -1000.0
RULES = CollectionRules(
    grace=OLD, untagged=None, uploads=OLD, cache_size=None, pulling=OLD, settling=OLD
)
UNTAGGED = replace(RULES, untagged=OLD)
#: A descriptor, as manifests hold it.
Described = dict[str, Any]


def silent(progress: Progress) -> None:
    """Watch a collection without a word."""


async def clean(
    store: Store, rules: CollectionRules = RULES, dry_run: bool = False
) -> CollectionReport:
    return await collect(store, rules, silent, dry_run=dry_run)


async def push_blob(registry: Registry, name: RepositoryName, content: bytes) -> Described:
    upload = await registry.start_upload(name)
    await upload.append(pieces(content))
    digest = Digest.of(content)
    await registry.finish_upload(name, upload, digest)
    return descriptor(digest, len(content))


def descriptor(
    digest: Digest, size: int, media_type: str = "application/octet-stream"
) -> Described:
    return {"mediaType": media_type, "digest": str(digest), "size": size}


async def push_image(
    registry: Registry,
    *tags: str,
    name: RepositoryName = NAME,
    layers: Sequence[bytes] = (b"layer",),
    subject: Described | None = None,
) -> Described:
    """Push an image, under tags or by its digest, and return its descriptor."""
    tree = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": await push_blob(registry, name, b"{}"),
        "layers": [await push_blob(registry, name, layer) for layer in layers],
    }
    if subject is not None:
        tree["subject"] = subject
    return await push(registry, name, tree, tags)


async def push_index(registry: Registry, *tags: str, children: list[Described]) -> Described:
    tree = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
    return await push(registry, NAME, tree, tags)


async def push(
    registry: Registry,
    name: RepositoryName,
    tree: dict[str, Any],
    tags: Sequence[str],
) -> Described:
    raw = json.dumps(tree).encode()
    await registry.push_manifest(
        name, [Tag(tag) for tag in tags] or [Digest.of(raw)], raw, tree["mediaType"]
    )
    return descriptor(Digest.of(raw), len(raw), tree["mediaType"])


def digest_of(described: Described) -> Digest:
    return Digest.parse(described["digest"])


async def blobs(store: Store) -> set[Digest]:
    return {state.digest async for batch in store.blobs.walk() for state in batch}


async def is_whole(registry: Registry, name: RepositoryName, described: Described) -> bool:
    """Tell whether an image can be pulled, with everything in it."""
    try:
        found = await registry.manifest(name, digest_of(described))
        tree = json.loads(found.raw)
        for part in [tree["config"], *tree["layers"]]:
            blob = await registry.blob(name, digest_of(part))
            assert Digest.of(await content_of(blob)) == digest_of(part)
    except (ManifestUnknown, BlobUnknown):
        return False
    return True


async def cache_image(
    store: Store, name: RepositoryName, *layers: bytes, tag: str = "latest"
) -> Described:
    """Store an image as pull-through does."""
    index = store.cached(name)
    described = []
    for layer in layers:
        upload = await store.uploads.ingest(Digest.of(layer))
        await upload.append(pieces(layer))
        await upload.commit(Digest.of(layer))
        await index.layers.add(Digest.of(layer))
        described.append(descriptor(Digest.of(layer), len(layer)))
    # The clock of files ticks every few milliseconds: layers that images share must be older.
    await asyncio.sleep(0.02)
    tree = {"schemaVersion": 2, "config": described[0], "layers": described[1:]}
    raw = json.dumps(tree).encode()
    await store.blobs.put(Digest.of(raw), raw)
    await index.manifests.add(Digest.of(raw))
    await index.tags.set(Tag(tag), Digest.of(raw))
    return descriptor(Digest.of(raw), len(raw))
