# SPDX-License-Identifier: Apache-2.0
"""The store's word on an image that a client got: where it came from, and what belongs to it."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial

from buildset_registry.errors import RegistryError
from buildset_registry.latest import Latest
from buildset_registry.ledger.joining import ImageParts
from buildset_registry.ledger.rows import Row, clipped, stamp
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest, stored_media_type
from buildset_registry.oci.names import RepositoryName, Tag, parse_reference
from buildset_registry.overlay.table import OverlaidTags
from buildset_registry.pacing import aside
from buildset_registry.store.base import RepositoryIndex, Store
from buildset_registry.upstream.counters import UpstreamCounters

#: Manifests whose parts are remembered: they never change.
_REMEMBERED = 512
#: Parts past which a manifest counts as one that is not stored: a row keeps them for half an hour.
_MOST_PARTS = 500


class StoreFacts:
    """Looks at the store after the answer was sent, so that no request waits for it."""

    def __init__(
        self, store: Store, upstream: UpstreamCounters, overlaid: OverlaidTags | None = None
    ) -> None:
        self._store = store
        self._overlaid = overlaid
        self._upstream = upstream
        self._parts: Latest[str, ImageParts | None] = Latest(_REMEMBERED)

    async def source(self, name: str, reference: str, digest: str, now: float) -> Row:
        """Return where an image came from.

        A tag that was moved since is found by its digest: what was pushed wins, as for clients.
        """
        repository = RepositoryName(name)
        with suppress(OSError, RegistryError):
            if await self._is_pushed(repository, reference, digest):
                return {"kind": "pushed"}
            overlaid = self._overlay_of(repository, reference, digest)
            if overlaid is not None:
                return overlaid
            asked = await self._asked(repository, reference, now)
            source: Row = {"kind": "upstream", "registry": repository.host, "asked": stamp(asked)}
            stale = self._upstream.stale_names.get((repository.canonical, reference), 0.0)
            return source | ({"stale": True} if stale >= asked else {})
        return {"kind": "unknown"}

    async def parts(self, name: str, digest: str) -> ImageParts | None:
        """Return what belongs to a manifest; None where it is not stored, or that is too much."""
        if digest in self._parts:
            return self._parts[digest]
        with suppress(OSError, RegistryError):
            parsed = Digest.parse(digest)
            raw = await self._store.blobs.read(parsed)
            if raw is None:
                return None
            found = await aside(len(raw), partial(_read, raw))
            self._parts[digest] = found
            return found
        return None

    def _overlay_of(self, name: RepositoryName, reference: str, digest: str) -> Row | None:
        """Return which build's image it is, where it is one of the overlay's."""
        if self._overlaid is None:
            return None
        image = self._overlaid.image(name, parse_reference(reference))
        if image is None or str(image.digest) != digest:
            return None
        registry = str(image.holder.host)
        return {
            "kind": "overlay", "registry": registry, "build": image.build, "change": image.change
        }  # fmt: skip

    async def _is_pushed(self, name: RepositoryName, reference: str, digest: str) -> bool:
        wanted = parse_reference(reference)
        for index in map(self._store.pushed, name.names):
            if isinstance(wanted, Tag) and await _points_to(index, wanted, digest):
                return True
            if await index.manifests.has(Digest.parse(digest)):
                cached = isinstance(wanted, Tag) and await _points_to(
                    self._store.cached(name.canonical), wanted, digest
                )
                return not cached
        return False

    async def _asked(self, name: RepositoryName, reference: str, now: float) -> float:
        """Return when upstream was asked for what it gave; now, where nothing was noted of it."""
        wanted = parse_reference(reference)
        if isinstance(wanted, Tag):
            target = await self._store.cached(name.canonical).tags.get(wanted)
            return now if target is None else target.checked
        return now


async def _points_to(index: RepositoryIndex, tag: Tag, digest: str) -> bool:
    target = await index.tags.get(tag)
    return target is not None and str(target.digest) == digest


def _read(raw: bytes) -> ImageParts | None:
    manifest = Manifest.stored(raw, stored_media_type(raw))
    if len(manifest.manifests) + len(manifest.blobs) > _MOST_PARTS:
        return None
    platforms = platforms_of(raw) if manifest.manifests else {}
    return ImageParts(
        {str(one.digest): platforms.get(str(one.digest), "") for one in manifest.manifests},
        frozenset(str(one.digest) for one in manifest.blobs),
    )


def platforms_of(raw: bytes) -> dict[str, str]:
    """Return the platforms of what an index lists, as ``linux/arm64/v8``, by digest."""
    try:
        tree = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    listed = tree.get("manifests") if isinstance(tree, dict) else None
    found = {}
    for one in listed if isinstance(listed, list) else []:
        platform = one.get("platform") if isinstance(one, dict) else None
        if isinstance(platform, dict):
            words = [platform.get(key) for key in ("os", "architecture", "variant")]
            text = "/".join(word for word in words if isinstance(word, str) and word)
            found[str(one.get("digest"))] = clipped(text)
    return found
