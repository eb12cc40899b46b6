# SPDX-License-Identifier: Apache-2.0
"""Images that a job names in ``docker_images`` or ``container_images``: repositories and tags."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .endpoints import HUB, Endpoint
from .errors import ImagesError, shown

#: What is built where no tag is named.
DEFAULT_TAGS = ("latest",)
LONGEST_TAG = 128
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PORT = r"(?::[0-9]{1,5})?"
_REPOSITORY = re.compile(
    rf"(?:(?:{_COMPONENT}|\[[0-9a-f:]+\]){_PORT}/)?{_COMPONENT}(?:/{_COMPONENT})*"
)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]*")
_LONGEST_NAME = 255


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
        prefix = f"{HUB}/"
        return self.repository[len(prefix) :] if self.in_hub else self.repository

    @property
    def in_hub(self) -> bool:
        """Whether the name says that it is Docker Hub's."""
        return self.repository.startswith(f"{HUB}/")

    @property
    def public(self) -> tuple[Endpoint, str]:
        """The registry that the name names, and the repository there."""
        first, _slash, rest = self.repository.partition("/")
        if first != self.registry:
            rest = self.repository
        if self.registry == HUB and "/" not in rest:
            rest = f"library/{rest}"
        return Endpoint.parse(self.registry, str(self)), rest

    @property
    def registry(self) -> str:
        """The registry that the name names: Docker Hub where it names none."""
        first, slash, _rest = self.repository.partition("/")
        named = slash and (set(".:") & set(first) or first == "localhost")
        return first if named else HUB


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
    if not _REPOSITORY.fullmatch(text) or len(text) > _LONGEST_NAME:
        hint = "write it in lower case, without a tag, such as quay.io/org/app"
        raise ImagesError(f"{whose}: {shown(text)} is no name of a repository; {hint}")
    return text


def checked_tag(value: Any, whose: str) -> str:
    """Return a tag if it is one, but for its length."""
    text = str(value)
    if not _TAG.fullmatch(text):
        hint = "a tag has letters, digits, dots, dashes and underscores"
        raise ImagesError(f"{whose} is {shown(text)}; {hint}")
    return text


def check_length(build: str, image: TaggedImage) -> None:
    """Refuse a tag that is too long once the build stands before it."""
    length = len(built_tag(build, image.tag))
    if length > LONGEST_TAG:
        most = LONGEST_TAG - len(built_tag(build, ""))
        raise ImagesError(
            f"{image}: with the build before it, the tag has {length} characters, and a registry "
            f"takes {LONGEST_TAG}; give the image a tag of {most} or fewer"
        )
