# SPDX-License-Identifier: Apache-2.0
"""Copies that push, pull and promote are made of: from which registry's tag to which one's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .artifacts import ImageArtifact
from .endpoints import Login, login_of, push_endpoint, registry_host, written
from .errors import ImagesError, shown
from .images import TaggedImage, built_tag, check_length, checked_tag
from .registry_client.oci.hosts import RegistryHost

BUILDSET, INTERMEDIATE = "buildset registry", "intermediate registry"


@dataclass(frozen=True)
class KnownRegistry:
    """A registry that takes part, and how it is used."""

    kind: str
    host: RegistryHost
    login: Login

    def __str__(self) -> str:
        return f"the {self.kind} {written(self.host)}" if self.kind else written(self.host)


@dataclass(frozen=True)
class ImageLocation:
    """A repository and a tag of a registry, and the digest that is expected there, if known."""

    registry: KnownRegistry
    repository: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        return f"{written(self.registry.host)}/{self.repository}:{self.tag}"


@dataclass(frozen=True)
class ImageCopy:
    """An image's way from one registry to another."""

    image: TaggedImage
    source: ImageLocation
    target: ImageLocation
    #: Who made it, where another build did.
    origin: str = ""

    @property
    def told(self) -> str:
        """The image, and who made it where that is known."""
        return self.origin or str(self.image)


def buildset_registry(facts: Mapping[str, Any] | None) -> KnownRegistry:
    """Return the buildset's registry by its facts."""
    if not facts or not facts.get("host"):
        hint = "run the role run_buildset_registry first, or depend on a job that does"
        raise ImagesError(f"there is no buildset registry: buildset_registry is not set; {hint}")
    return KnownRegistry(BUILDSET, push_endpoint(facts), login_of(facts))


def intermediate_registry(secret: Mapping[str, Any] | None) -> KnownRegistry:
    """Return the intermediate registry by the secret."""
    if not secret or not secret.get("host"):
        hint = "give the job the secret of that name, with host, port, username and password"
        raise ImagesError(f"intermediate_registry is not set; {hint}")
    port = secret.get("port") or "443"
    host = registry_host(secret["host"], port, "intermediate_registry")
    return KnownRegistry(INTERMEDIATE, host, login_of(secret))


def push_copies(
    images: Iterable[TaggedImage], build: str, own: KnownRegistry, there: KnownRegistry
) -> list[ImageCopy]:
    """Copy what this build has pushed to where other buildsets find it, by the build's name."""
    if not re.fullmatch(r"[a-zA-Z0-9_][a-zA-Z0-9.-]*", build):
        raise ImagesError(f"zuul.build is {shown(build)}; images are named after the build")
    copies = []
    for image in images:
        check_length(build, image)
        target = ImageLocation(there, image.repository, built_tag(build, image.tag))
        copies.append(ImageCopy(image, ImageLocation(own, image.stored, image.tag), target))
    return copies


def pull_copies(
    artifacts: Iterable[ImageArtifact], own: KnownRegistry, there: KnownRegistry
) -> list[ImageCopy]:
    """Copy what other builds have made to the buildset's registry, under the public names."""
    return [
        ImageCopy(
            one.image,
            left_by(one, there),
            ImageLocation(own, one.image.stored, one.image.tag),
            one.told,
        )
        for one in artifacts
    ]


def left_by(artifact: ImageArtifact, there: KnownRegistry) -> ImageLocation:
    """Return where an artifact's image is, if that is the registry that we have a login for."""
    if artifact.registry != there.host:
        raise ImagesError(
            f"{artifact.told}, is at {written(artifact.registry)}, and intermediate_registry is "
            f"{written(there.host)}; give the secret of the registry that this build used"
        )
    return ImageLocation(there, artifact.repository, artifact.reference, artifact.digest)


@dataclass(frozen=True)
class PublicRegistry:
    """A registry of ``container_registry_credentials``, and what may be written to it."""

    name: str
    login: Login
    #: A regular expression that repositories have to match, as zuul-jobs has it.
    repository: str = ""


def public_registries(given: Iterable[Mapping[str, Any]]) -> dict[str, PublicRegistry]:
    """Read the credentials by the names of their registries."""
    found = {}
    for one in given:
        name, login = str(one["registry"]), one.get("login") or {}
        pattern = str(login.get("repository") or "")
        try:
            re.compile(pattern)
        except re.error as error:
            what = f"repository of {name} is no regular expression ({error})"
            raise ImagesError(f"container_registry_credentials: {what}; mend it") from error
        found[name] = PublicRegistry(name, login_of(login), pattern)
    return found


def public_location(
    image: TaggedImage, names: Mapping[str, str], registries: Mapping[str, PublicRegistry]
) -> ImageLocation:
    """Return where an image is published, if the credentials allow that."""
    host, repository = image.public
    name = names.get(image.repository) or image.registry
    known = registries.get(name)
    if known is None:
        what = f"container_registry_credentials has none for {name}"
        raise ImagesError(f"{image}: {what}, where it is to be promoted")
    if known.repository and not re.search(known.repository, image.repository):
        what = f"container_registry_credentials of {name} are for {known.repository} only"
        raise ImagesError(f"{image} may not be promoted: {what}")
    return ImageLocation(KnownRegistry("", host, known.login), repository, image.tag)


def promote_copies(
    built: Iterable[tuple[TaggedImage, ImageArtifact]],
    there: KnownRegistry,
    public: Mapping[TaggedImage, ImageLocation],
) -> list[ImageCopy]:
    """Copy what a successful build has left to where it is published."""
    return [
        ImageCopy(image, left_by(artifact, there), public[image], artifact.told)
        for image, artifact in built
    ]


def retag_copies(
    prefix: str, digests: Mapping[TaggedImage, str], public: Mapping[TaggedImage, ImageLocation]
) -> list[ImageCopy]:
    """Give what was uploaded under a change's tag its own tag, in the same repository.

    ``digests`` says what the images are to be, where an artifact tells it.
    """
    checked_tag(prefix, "the prefix of the tags")
    copies = []
    for image, target in public.items():
        check_length(prefix, image)
        tag = built_tag(prefix, image.tag)
        source = ImageLocation(target.registry, target.repository, tag, digests.get(image, ""))
        copies.append(ImageCopy(image, source, target))
    return copies
