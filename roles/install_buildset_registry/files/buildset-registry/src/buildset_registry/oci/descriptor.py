# SPDX-License-Identifier: Apache-2.0
"""Descriptors and media types of the OCI image specification and of Docker's older formats."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ManifestInvalid
from .digest import Digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_SCHEMA1 = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
#: Manifests that list other manifests.
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
#: Manifests that list blobs.
IMAGES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST, OCI_ARTIFACT})

OCTETS = "application/octet-stream"

#: RFC 6838, section 4.2, as the image specification wants media types.
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][\w!#$&^.+-]{0,126}/[A-Za-z0-9][\w!#$&^.+-]{0,126}", re.ASCII)
#: What is in the types of layers and configurations, of OCI's, Docker's and BuildKit's caches.
_PARTS = (".layer.", ".rootfs.", ".config.v1+json", "vnd.buildkit.cacheconfig.")
#: Go's clients read sizes into so many bits.
_LARGEST = 2**63 - 1


def is_media_type(text: str) -> bool:
    """Tell whether a text can be the type of content, and so a header."""
    return _MEDIA_TYPE.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to content: what it is, its address, and its size in bytes."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] | None = None
    artifact_type: str | None = None
    urls: tuple[str, ...] = ()

    @property
    def foreign(self) -> bool:
        """Whether the content stands elsewhere and need not be in the registry.

        Layers with ``urls``, and the non-distributable media types of the image specification
        and of Docker (``...rootfs.foreign.diff.tar.gzip``).
        """
        return (
            bool(self.urls)
            or "nondistributable" in self.media_type
            or ".foreign." in self.media_type
        )

    @property
    def is_part(self) -> bool:
        """Whether this is a part of an image, and so no manifest, wherever it is listed."""
        return any(word in self.media_type for word in _PARTS)

    @classmethod
    def parse(cls, tree: object, where: str, *, strict: bool = True) -> Descriptor:
        """Read a descriptor from JSON; ``ManifestInvalid`` names ``where`` it is wrong.

        Not ``strict``, it may lack what clients do without: old registries have descriptors
        without ``mediaType`` (moby#22378), and a size that is missing is 0 to clients written in
        Go. What is linked by it is linked all the same.
        """
        if not isinstance(tree, dict):
            raise ManifestInvalid(f"{where} is not a descriptor")
        digest, size, media_type = tree.get("digest"), tree.get("size"), tree.get("mediaType")
        if not isinstance(digest, str) or (strict and not isinstance(media_type, str)):
            raise ManifestInvalid(f"{where} needs digest and mediaType")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _LARGEST:
            if strict:
                raise ManifestInvalid(f"{where}.size must be a number of bytes")
            size = 0
        urls = tree.get("urls")
        artifact_type = tree.get("artifactType")
        return cls(
            media_type if isinstance(media_type, str) else OCTETS,
            Digest.parse(digest),
            size,
            parse_annotations(tree, f"{where}.annotations", strict=strict),
            artifact_type=artifact_type if isinstance(artifact_type, str) else None,
            urls=tuple(map(str, urls)) if isinstance(urls, list) else (),
        )

    def to_json(self) -> dict[str, object]:
        """Return the descriptor as the JSON of an index lists it."""
        tree: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.artifact_type:
            tree["artifactType"] = self.artifact_type
        if self.annotations:
            tree["annotations"] = dict(self.annotations)
        return tree


def parse_annotations(
    tree: Mapping[str, object], where: str, *, strict: bool = True
) -> Mapping[str, str] | None:
    """Return annotations, which are texts by name: clients written in Go read nothing else.

    Others are refused where that is ``strict``, and left out where it is not.
    """
    found = tree.get("annotations")
    if not isinstance(found, dict):
        if strict and found is not None:
            raise ManifestInvalid(f"{where} is not an object of texts")
        return None
    texts = {name: value for name, value in found.items() if isinstance(value, str)}
    if strict and any(value is not None for name, value in found.items() if name not in texts):
        raise ManifestInvalid(f"{where} has a value that is no text")
    return texts
