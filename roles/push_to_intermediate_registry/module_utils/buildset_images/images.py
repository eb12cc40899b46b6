# SPDX-License-Identifier: Apache-2.0
"""Images that a job names in ``docker_images`` or ``container_images``: repositories and tags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .endpoints import parse_host
from .errors import ImagesError, shown
from .registry_client.errors import RegistryError
from .registry_client.oci.hosts import DOCKER_HUB, RegistryHost
from .registry_client.oci.names import RepositoryName, Tag

#: What is built where no tag is named.
DEFAULT_TAGS = ("latest",)
LONGEST_TAG = 128


@dataclass(frozen=True)
class TaggedImage:
    """A repository, as a job names it, and a tag."""

    repository: str
    tag: str

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"

    @property
    def stored(self) -> str:
        """The repository in a buildset registry, which has Docker Hub's without their host."""
        prefix = f"{DOCKER_HUB}/"
        hub = self.repository.startswith(prefix)
        return self.repository[len(prefix) :] if hub else self.repository

    @property
    def registry(self) -> str:
        """The registry that the name names: Docker Hub where it names none."""
        first, slash, _rest = self.repository.partition("/")
        return first if slash and _is_registry(first) else str(DOCKER_HUB)

    @property
    def public(self) -> tuple[RegistryHost, str]:
        """The registry that the name names, and the repository there."""
        first, _slash, rest = self.repository.partition("/")
        host = parse_host(self.registry, str(self))
        rest = rest if first == self.registry else self.repository
        return host, f"library/{rest}" if host == DOCKER_HUB and "/" not in rest else rest


def _is_registry(first: str) -> bool:
    """Tell whether the first component of a name is a registry, as docker does."""
    return "." in first or ":" in first or first == "localhost"


def built_tag(build: str, tag: str) -> str:
    """Return the tag of a build's image in the intermediate registry."""
    return f"{build}_{tag}"


def wanted_images(images: Any, whose: str) -> list[TaggedImage]:
    """Return what a job names, each once; ImagesError says what is wrong with one of them."""
    if not isinstance(images, (list, tuple)):
        raise ImagesError(f"{whose} is {shown(images)}; give a list of images")
    found = [one for image in images for one in _tagged(image, whose)]
    return list(dict.fromkeys(found))


def _tagged(image: Any, whose: str) -> Iterable[TaggedImage]:
    if not isinstance(image, Mapping) or not image.get("repository"):
        raise ImagesError(f"{whose}: {shown(image)} has no repository; each image needs one")
    repository = checked_repository(image["repository"], whose)
    tags = image.get("tags", DEFAULT_TAGS)
    if not isinstance(tags, (list, tuple)):
        raise ImagesError(f"{whose}: tags of {repository} is {shown(tags)}; give a list of tags")
    for tag in tags:
        yield TaggedImage(repository, checked_tag(tag, f"{whose}: a tag of {repository}"))


def checked_repository(value: Any, whose: str) -> str:
    """Return a repository's name if it is one; it may begin with its registry."""
    text = str(value)
    first, slash, rest = text.partition("/")
    named = bool(slash) and _is_registry(first)
    try:
        if named:
            RegistryHost.parse(first)
        RepositoryName.parse(rest if named else text)
    except RegistryError as error:
        hint = "write it in lower case, without a tag, such as quay.io/org/app"
        raise ImagesError(f"{whose}: {shown(text)} is no name of a repository; {hint}") from error
    return text


def checked_tag(value: Any, whose: str) -> str:
    """Return a tag if it is one."""
    try:
        return str(Tag.parse(str(value)))
    except RegistryError as error:
        hint = f"a tag has up to {LONGEST_TAG} letters, digits, dots, dashes and underscores"
        raise ImagesError(f"{whose} is {shown(value)}; {hint}") from error


def check_length(build: str, image: TaggedImage) -> None:
    """Refuse a tag that is too long once the build stands before it."""
    length = len(built_tag(build, image.tag))
    if length > LONGEST_TAG:
        most = LONGEST_TAG - len(built_tag(build, ""))
        raise ImagesError(
            f"{image}: with the build before it, the tag has {length} characters, and a registry "
            f"takes {LONGEST_TAG}; give the image a tag of {most} or fewer"
        )
