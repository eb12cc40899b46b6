# SPDX-License-Identifier: Apache-2.0
"""Platforms of images: ``os/architecture[/variant]``, as indexes and configurations tell them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial

from ..oci.descriptor import Descriptor
from ..oci.digest import Digest
from ..oci.manifest import Manifest
from .content import BlobReader, ImageSource
from .errors import ContentMismatch, TransferError

Platforms = tuple[str, ...]
_CONFIGURATIONS = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
_MAX_CONFIGURATION = 1 << 20
#: What other names mean, by containerd's and docker's normal form.
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386"}
#: Buildx says by this that a manifest in an index is the attestation of another.
_ATTESTATION = "vnd.docker.reference.digest"


def parse_platform(text: str) -> str:
    """Return the normal form of a platform; ``TransferError`` for what is none."""
    parts = text.lower().split("/")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise TransferError(
            f"{text[:80]!r} is no platform; write os/architecture, as in linux/amd64"
        )
    return _normal(*parts)


def images_for(manifest: Manifest, platforms: Platforms) -> list[Descriptor]:
    """Return the images that an index has for some platforms; ``TransferError`` where it lacks
    one."""
    offered = list(_offered(manifest))
    found: list[Descriptor] = []
    for platform in platforms:
        matching = [one for one, name in offered if name and _matches(name, platform)]
        if not matching:
            names = ", ".join(dict.fromkeys(name for _one, name in offered if name)) or "none"
            raise TransferError(f"the image has no {platform}; there is: {names}")
        found += [one for one in matching[:1] if one not in found]
    return found


def chosen(manifest: Manifest, platforms: Platforms) -> list[Descriptor]:
    """Return the images for some platforms, and the attestations of these that an index lists."""
    found = images_for(manifest, platforms)
    attested = {str(one.digest) for one in found}
    return found + [
        one
        for one in manifest.manifests
        if (one.annotations or {}).get(_ATTESTATION) in attested and one not in found
    ]


def platforms_of(manifest: Manifest, narrowed: Platforms) -> list[str]:
    """Return the platforms that an index lists, attestations left out."""
    wanted = chosen(manifest, narrowed) if narrowed else None
    names = [name for one, name in _offered(manifest) if name and (wanted is None or one in wanted)]
    return list(dict.fromkeys(names))


def image_platform(
    manifest: Manifest, source: ImageSource, sleep: Callable[[float], object]
) -> list[str]:
    """Return the platform that an image's configuration tells; none for what is no image."""
    config = next((one for one in manifest.blobs if one.media_type in _CONFIGURATIONS), None)
    if config is None or config.size > _MAX_CONFIGURATION:
        return []
    reader = BlobReader(config, partial(source.open_blob, config.digest), sleep)
    # What is wrong with it is told where it is copied.
    reader.hashed = False
    try:
        raw = reader.read()
    except ContentMismatch:
        return []
    if Digest.of(raw, config.digest.algorithm) != config.digest:
        return []
    name = _name(_load(raw))
    return [name] if name else []


def _offered(manifest: Manifest) -> Iterator[tuple[Descriptor, str]]:
    """Yield what an index lists with its platform, which is empty for what is for none."""
    tree = _load(manifest.raw)
    items = tree.get("manifests") if isinstance(tree, dict) else None
    names = {
        str(item.get("digest")): _name(item.get("platform"))
        for item in (items if isinstance(items, list) else [])
        if isinstance(item, dict)
    }
    for one in manifest.manifests:
        yield one, names.get(str(one.digest), "")


def _load(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _name(tree: object) -> str:
    known = tree if isinstance(tree, dict) else {}
    system, architecture = known.get("os"), known.get("architecture")
    if not isinstance(system, str) or not isinstance(architecture, str):
        return ""
    if "unknown" in (system, architecture) or not system or not architecture:
        return ""
    variant = known.get("variant")
    return _normal(system, architecture, variant if isinstance(variant, str) else "")


def _normal(system: str, architecture: str, variant: str = "") -> str:
    architecture = _ARCHITECTURES.get(architecture, architecture)
    if (architecture, variant) in {("arm64", "v8"), ("amd64", "v1")}:
        variant = ""
    return "/".join(filter(None, (system, architecture, variant)))


def _matches(name: str, platform: str) -> bool:
    return name == platform or name.startswith(f"{platform}/")
