# SPDX-License-Identifier: Apache-2.0
"""All images of a repository, by what it lists as tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import RegistryError
from ..oci.digest import Digest
from ..oci.names import Tag
from .ends import EndAccess, Ends
from .errors import TransferError
from .image_names import RegistryImage, parse_image
from .remote import RemoteRepository


def tagged_images(sources: Sequence[str], access: EndAccess) -> tuple[list[str], list[str]]:
    """Return the names of all images of some repositories, and the repositories that have none.

    By the lists of their tags: a registry need not have a catalog, and zuul-registry has none.
    ``TransferError`` where none of them has an image, since a name is wrong then.
    """
    repositories = [_repository(source) for source in sources]
    found: list[str] = []
    empty: list[str] = []
    with Ends(access, EndAccess(), None) as ends:
        for repository in repositories:
            end = ends.source(repository)
            listed = list(end.tags()) if isinstance(end, RemoteRepository) else []
            found += [str(_listed_image(repository, one)) for one in listed]
            empty += [] if listed else [str(repository)]
    if not found:
        raise TransferError(f"{', '.join(empty)[:300]}: no image has a tag there; check the name")
    return found, empty


def _repository(text: str) -> RegistryImage:
    image = parse_image(text)
    if not isinstance(image, RegistryImage) or image.tag or image.digest:
        raise TransferError(f"{image} is one image; with --all-tags name HOST[:PORT]/REPOSITORY")
    return image


def _listed_image(repository: RegistryImage, listed: str) -> RegistryImage:
    """Return the image of a tag; zuul-registry lists among tags what was pushed by its digest."""
    try:
        if ":" in listed:
            return replace(repository, digest=Digest.parse(listed))
        return replace(repository, tag=Tag.parse(listed))
    except RegistryError:
        raise TransferError(f"{repository} lists {listed[:150]!r}, which is no tag") from None
