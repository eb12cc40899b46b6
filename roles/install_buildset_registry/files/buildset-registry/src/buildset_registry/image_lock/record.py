# SPDX-License-Identifier: Apache-2.0
"""The lock of what a registry pulled through: the tags of its upstreams, as they were pinned."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import replace
from datetime import datetime, timezone

from buildset_registry.image_lock.document import ImageLock, LockedImage, PublicName
from buildset_registry.lookup import Lookup
from buildset_registry.oci.descriptor import INDEXES
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.sources import StoredManifest
from buildset_registry.store.base import RepositoryIndex, Store

#: What builders call the platform of what runs nowhere, such as an attestation.
_NOWHERE = "unknown"


async def record(
    store: Store,
    replayed: ImageLock | None = None,
    built: Collection[tuple[PublicName, Digest]] = (),
) -> ImageLock:
    """Return the lock of what is pinned; days are kept of what was ``replayed``.

    What other builds have made is no upstream's image, and is left out.
    """
    known = replayed.images if replayed else {}
    images: dict[PublicName, LockedImage] = {}
    async for name, tag, digest, checked in _tags(store, store.cached):
        stored = await Lookup(store).cached_manifest(name, digest)
        image = PublicName(name, tag)
        if stored is None or (image, digest) in built:
            continue
        found = LockedImage(
            digest,
            stored.media_type,
            await _platforms(store, stored),
            str(name.host),
            datetime.fromtimestamp(checked, timezone.utc).date().isoformat(),
        )
        before = known.get(image)
        images[image] = carried(found, before) if before else found
    return ImageLock(images)


async def pushed_images(store: Store) -> dict[str, Digest]:
    """Return the digests of what jobs pushed, by public names with their tags."""
    return {
        str(PublicName(name, tag)): digest
        async for name, tag, digest, _checked in _tags(store, store.pushed)
    }


def carried(found: LockedImage, before: LockedImage) -> LockedImage:
    """Return an image with what an older lock says of the same digest."""
    if before.digest != found.digest:
        return found
    return replace(
        found,
        platforms=found.platforms or before.platforms,
        first_seen=before.first_seen or found.first_seen,
    )


def index_platforms(raw: bytes) -> tuple[str, ...]:
    """Return the platforms that an index lists, sorted."""
    listed = _tree(raw).get("manifests")
    entries = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return _named(one.get("platform") for one in entries)


async def _platforms(store: Store, stored: StoredManifest) -> tuple[str, ...]:
    """Return the platforms of an index, or of an image whose configuration was pulled, too."""
    if stored.media_type in INDEXES:
        return index_platforms(stored.raw)
    blobs = Manifest.stored(stored.raw, stored.media_type, stored.digest.algorithm).blobs
    if not blobs or not _configured(stored.raw):
        return ()
    return _named([_tree(await store.blobs.read(blobs[0].digest) or b"")])


def _configured(raw: bytes) -> bool:
    """Tell whether the first blob of a manifest is a configuration, which is small and JSON."""
    config = _tree(raw).get("config")
    kind = config.get("mediaType") if isinstance(config, dict) else None
    return isinstance(kind, str) and kind.endswith("json")


def _named(platforms: Iterable[object]) -> tuple[str, ...]:
    names = set()
    for one in platforms:
        tree = one if isinstance(one, dict) else {}
        parts = [tree.get("os"), tree.get("architecture"), tree.get("variant")]
        words = [part for part in parts if isinstance(part, str) and part]
        if len(words) > 1 and _NOWHERE not in words:
            names.add("/".join(words))
    return tuple(sorted(names))


def _tree(raw: bytes) -> dict[str, object]:
    try:
        tree = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


async def _tags(
    store: Store, part: Callable[[RepositoryName], RepositoryIndex]
) -> AsyncIterator[tuple[RepositoryName, Tag, Digest, float]]:
    """Yield the tags of all repositories of a part of the store, with what they point to."""
    for name in await store.repositories():
        tags = part(name).tags
        for tag in await tags.all():
            target = await tags.get(tag)
            if target is not None:
                yield name, tag, target.digest, target.checked
