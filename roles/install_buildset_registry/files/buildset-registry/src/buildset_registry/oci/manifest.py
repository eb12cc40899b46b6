# SPDX-License-Identifier: Apache-2.0
"""Manifests: the bytes as they were pushed, and what they link to.

``raw`` is what is stored and served, byte for byte. Known media types are checked (image
specification, "Image Manifest" and "Image Index"; Docker's "Image Manifest V 2, Schema 2");
content of an unknown type is kept as it is, with the links that can be recognised in it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypedDict

from ..errors import DigestInvalid, ManifestInvalid, ManifestTooLarge
from .descriptor import (
    DOCKER_SCHEMA1,
    IMAGES,
    INDEXES,
    OCI_INDEX,
    OCI_MANIFEST,
    OCTETS,
    Descriptor,
    is_media_type,
    parse_annotations,
)
from .digest import Digest

#: Bytes; the distribution specification asks for at least this much.
MAX_MANIFEST = 4 * 1024 * 1024
#: Characters of a referrer's annotations that a list shows.
_LISTED = 256 * 1024

_GENERIC_TYPES = frozenset({"", OCTETS, "application/json", "application/x-www-form-urlencoded"})
#: The types whose content has to be what the specifications say; nothing stands for no type.
_SPECIFIED = frozenset({"", *IMAGES, *INDEXES, *DOCKER_SCHEMA1})
#: The names in manifests that mean something, by their form without case.
_NAMES = {
    name.casefold(): name
    for name in (
        *("schemaVersion", "mediaType", "artifactType", "config", "layers", "fsLayers"),
        *("blobs", "manifests", "subject", "annotations"),
    )
}


class _Links(TypedDict):
    """The part of a manifest that is not its bytes, type and digest."""

    blobs: tuple[Descriptor, ...]
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None
    artifact_type: str | None
    annotations: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as pushed, with its digest by the algorithm of the push."""

    raw: bytes
    media_type: str
    digest: Digest
    blobs: tuple[Descriptor, ...] = ()
    """Config, layers and other blobs, the foreign ones left out."""

    manifests: tuple[Descriptor, ...] = ()
    """What an index lists."""

    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] | None = None

    @property
    def descriptor(self) -> Descriptor:
        """The manifest as a referrers list shows it."""
        return Descriptor(
            self.media_type, self.digest, len(self.raw), self.annotations, self.artifact_type
        )

    @property
    def listed(self) -> Descriptor:
        """The same; where its annotations would fill a list, without them."""
        annotations = self.annotations or {}
        size = sum(len(name) + len(value) for name, value in annotations.items())
        return replace(self.descriptor, annotations=None) if size > _LISTED else self.descriptor

    @classmethod
    def parse(
        cls, raw: bytes, content_type: str = "", algorithm: str = "sha256", *, strict: bool = True
    ) -> Manifest:
        """Check ``raw`` as far as its type is known; ``ManifestInvalid`` says what is wrong.

        What an upstream has is not read so ``strict`` as what is pushed: clients read it, too.
        """
        if len(raw) > MAX_MANIFEST:
            raise ManifestTooLarge
        tree = _load(raw)
        media_type = _media_type(tree, content_type.partition(";")[0].strip().lower())
        digest = Digest.of(raw, algorithm)
        if not isinstance(tree, dict):
            return cls(raw, media_type, digest)
        known = media_type in IMAGES or media_type in INDEXES
        try:
            if known:
                _check_shape(tree, media_type, strict=strict)
            return cls(raw, media_type, digest, **_links(tree, media_type, strict=strict))
        except (ManifestInvalid, DigestInvalid) as error:
            if known:
                raise ManifestInvalid(error.message) from None
            return cls(raw, media_type, digest)

    @classmethod
    def stored(cls, raw: bytes, media_type: str, algorithm: str = "sha256") -> Manifest:
        """Read what is here, by whatever rules it was taken in: no link of it is lost."""
        digest, tree = Digest.of(raw, algorithm), _load_stored(raw)
        if not isinstance(tree, dict):
            return cls(raw, media_type, digest)
        config, subject = (_readable([tree.get(key)]) for key in ("config", "subject"))
        blobs = (*config, *_readable(tree.get("layers")), *_readable(tree.get("blobs")))
        return cls(
            raw,
            media_type,
            digest,
            blobs=tuple(blob for blob in blobs if not blob.foreign),
            manifests=_readable(tree.get("manifests")),
            subject=subject[0] if subject else None,
            artifact_type=_artifact_type(tree, config[0] if config else None),
            annotations=parse_annotations(tree, "", strict=False),
        )


def stored_media_type(raw: bytes) -> str:
    """Return the media type that the bytes themselves tell, as distribution infers it."""
    try:
        return _media_type(_load_stored(raw), "")
    except ManifestInvalid:
        return OCTETS


def _load(raw: bytes) -> object:
    """Return the JSON that all clients read alike (RFC 8259, 4 and 8.1), None for any other."""
    try:
        return json.loads(raw.decode(), parse_constant=_no_number, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None


def _load_stored(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse a name that is there twice: of two values, clients differ in which they take."""
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("a name is there twice")
    return tree


def _media_type(tree: object, content_type: str) -> str:
    """Return the type: the content's own, which must agree with the header if both are there."""
    known = tree if isinstance(tree, dict) else {}
    declared = known.get("mediaType")
    stated = "" if content_type in _GENERIC_TYPES else content_type
    media_type = declared if isinstance(declared, str) and declared else stated
    old = known.get("schemaVersion") == 1 and media_type in _SPECIFIED
    if old or not DOCKER_SCHEMA1.isdisjoint((content_type, media_type)):
        raise ManifestInvalid(
            "Docker schema 1 is not supported; push the image again with docker 1.10 or newer"
        )
    if stated and stated != media_type.lower():
        raise ManifestInvalid(f"Content-Type {stated} is not the manifest's mediaType {declared}")
    if media_type and not is_media_type(media_type):
        raise ManifestInvalid(f"not a media type (RFC 6838): {media_type[:80]!r}")
    if not isinstance(tree, dict) and media_type in _SPECIFIED:
        raise ManifestInvalid("manifest is not a JSON object in UTF-8 whose names are there once")
    return media_type or _by_shape(known)


def _by_shape(tree: dict[str, object]) -> str:
    """Return the type of a manifest that does not say it, as distribution infers it."""
    if isinstance(tree.get("manifests"), list):
        return OCI_INDEX
    return OCI_MANIFEST if "config" in tree else OCTETS


def _check_shape(tree: dict[str, object], media_type: str, *, strict: bool) -> None:
    """Refuse what one client takes for an image and another for an index.

    Which of them it is depended on who reads it: CVE-2021-41190, GHSA-mc8v-mgrf-8f4m. Go reads
    names whatever their case.
    """
    for key in tree:
        name = _NAMES.get(key.casefold(), key)
        if name != key:
            raise ManifestInvalid(f"{key!r} has to be written {name}")
    foreign = ("config", "layers") if media_type in INDEXES else ("manifests",)
    found = [name for name in (*foreign, "fsLayers") if tree.get(name) is not None]
    if found:
        raise ManifestInvalid(f"{media_type} has no {found[0]}")
    if strict:
        _check_types(tree)


def _check_types(tree: dict[str, object]) -> None:
    """Refuse values of other types than the specification's, on which clients' parsers fail."""
    for name, kind in (("schemaVersion", int), ("mediaType", str), ("artifactType", str)):
        value = tree.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise ManifestInvalid(f"{name} is not of the specification's type")
    parse_annotations(tree, "annotations")


def _links(tree: dict[str, object], media_type: str, *, strict: bool) -> _Links:
    """Return what a manifest says of itself and of others."""

    def one(key: str) -> Descriptor:
        return Descriptor.parse(tree[key], key, strict=strict)

    config = one("config") if "config" in tree else None
    if media_type == OCI_MANIFEST and config is None:
        raise ManifestInvalid("config is missing")
    listed = (_list(tree, key, strict=strict) for key in ("layers", "blobs"))
    blobs = [*([config] if config else []), *itertools.chain(*listed)]
    return _Links(
        blobs=tuple(blob for blob in blobs if not blob.foreign),
        manifests=tuple(_list(tree, "manifests", strict=strict)),
        subject=one("subject") if tree.get("subject") else None,
        artifact_type=_artifact_type(tree, config),
        annotations=parse_annotations(tree, "annotations", strict=False),
    )


def _artifact_type(tree: dict[str, object], config: Descriptor | None) -> str | None:
    found = tree.get("artifactType")
    if isinstance(found, str) and found:
        return found
    return config.media_type if config else None


def _list(tree: dict[str, object], key: str, *, strict: bool) -> list[Descriptor]:
    items = tree.get(key)
    if items is None:
        return []
    if not isinstance(items, list):
        raise ManifestInvalid(f"{key} is not a list")
    return [
        Descriptor.parse(item, f"{key}[{number}]", strict=strict)
        for number, item in enumerate(items)
    ]


def _readable(items: object) -> tuple[Descriptor, ...]:
    """Return those of some items that are descriptors."""
    found = []
    for item in items if isinstance(items, list) else []:
        with contextlib.suppress(ManifestInvalid, DigestInvalid):
            found.append(Descriptor.parse(item, "", strict=False))
    return tuple(found)
