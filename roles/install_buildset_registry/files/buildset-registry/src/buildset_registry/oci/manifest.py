# SPDX-License-Identifier: Apache-2.0
"""Manifests: the bytes as they were pushed, and what they link to.

``raw`` is what is stored and served, byte for byte. Known media types are checked (image
specification, "Image Manifest" and "Image Index"; Docker's "Image Manifest V 2, Schema 2");
content of an unknown type is kept as it is, with the links that can be recognised in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from buildset_registry.errors import DigestInvalid, ManifestInvalid, ManifestTooLarge
from buildset_registry.oci.descriptor import (
    DOCKER_SCHEMA1,
    IMAGES,
    INDEXES,
    OCI_INDEX,
    OCI_MANIFEST,
    OCTETS,
    Descriptor,
)
from buildset_registry.oci.digest import Digest

#: Bytes; the distribution specification asks for at least this much.
MAX_MANIFEST = 4 * 1024 * 1024

_GENERIC_TYPES = frozenset({"", OCTETS, "application/json", "application/x-www-form-urlencoded"})


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

    @classmethod
    def parse(cls, raw: bytes, content_type: str = "", algorithm: str = "sha256") -> Manifest:
        """Check ``raw`` as far as its type is known; ``ManifestInvalid`` says what is wrong."""
        if len(raw) > MAX_MANIFEST:
            raise ManifestTooLarge
        tree = _load(raw)
        media_type = _media_type(tree, content_type.partition(";")[0].strip().lower())
        digest = Digest.of(raw, algorithm)
        if not isinstance(tree, dict):
            return cls(raw, media_type, digest)
        known = media_type in IMAGES or media_type in INDEXES
        try:
            return _with_links(cls, raw, media_type, digest, tree)
        except (ManifestInvalid, DigestInvalid) as error:
            if known:
                raise ManifestInvalid(error.message) from None
            return cls(raw, media_type, digest)


def stored_media_type(raw: bytes) -> str:
    """Return the media type that the bytes themselves tell, as distribution infers it."""
    try:
        return _media_type(_load(raw), "")
    except ManifestInvalid:
        return OCTETS


def _load(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _media_type(tree: object, content_type: str) -> str:
    """Return the type: the content's own, which must agree with the header if both are there."""
    known = tree if isinstance(tree, dict) else {}
    if content_type in DOCKER_SCHEMA1 or known.get("schemaVersion") == 1:
        raise ManifestInvalid(
            "Docker schema 1 is not supported; push the image again with docker 1.10 or newer"
        )
    declared = known.get("mediaType")
    stated = "" if content_type in _GENERIC_TYPES else content_type
    if isinstance(declared, str) and declared:
        if stated and stated != declared.lower():
            raise ManifestInvalid(
                f"Content-Type {stated} is not the manifest's mediaType {declared}"
            )
        return declared
    if not isinstance(tree, dict) and (not stated or stated in IMAGES | INDEXES):
        raise ManifestInvalid("manifest is not a JSON object")
    return stated or _by_shape(known)


def _by_shape(tree: dict[str, object]) -> str:
    """Return the type of a manifest that does not say it, as distribution infers it."""
    if isinstance(tree.get("manifests"), list):
        return OCI_INDEX
    return OCI_MANIFEST if "config" in tree else OCTETS


def _with_links(
    cls: type[Manifest], raw: bytes, media_type: str, digest: Digest, tree: dict[str, object]
) -> Manifest:
    config = Descriptor.parse(tree["config"], "config") if "config" in tree else None
    if media_type == OCI_MANIFEST and config is None:
        raise ManifestInvalid("config is missing")
    blobs = [*_list(tree, "layers"), *_list(tree, "blobs")]
    artifact_type = tree.get("artifactType")
    if not isinstance(artifact_type, str) or not artifact_type:
        artifact_type = config.media_type if config else None
    annotations = tree.get("annotations")
    return cls(
        raw,
        media_type,
        digest,
        blobs=tuple(blob for blob in (*([config] if config else []), *blobs) if not blob.foreign),
        manifests=tuple(_list(tree, "manifests")),
        subject=Descriptor.parse(tree["subject"], "subject") if tree.get("subject") else None,
        artifact_type=artifact_type,
        annotations=annotations if isinstance(annotations, dict) else None,
    )


def _list(tree: dict[str, object], key: str) -> list[Descriptor]:
    items = tree.get(key)
    if items is None:
        return []
    if not isinstance(items, list):
        raise ManifestInvalid(f"{key} is not a list")
    return [Descriptor.parse(item, f"{key}[{number}]") for number, item in enumerate(items)]
