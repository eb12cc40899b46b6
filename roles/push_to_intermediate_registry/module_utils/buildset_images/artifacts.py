# SPDX-License-Identifier: Apache-2.0
"""Artifacts by which Zuul tells one buildset of the images of another.

Name, URL, type, repository and tag are as zuul-jobs has them, so that its roles take what is
returned here and these take what is returned there. Digest, media type and platforms are more than
those have, and may be absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .endpoints import parse_host, written
from .errors import ImagesError, shown
from .images import TaggedImage, built_tag, checked_repository, checked_tag
from .registry_client.errors import RegistryError
from .registry_client.oci.digest import Digest
from .registry_client.oci.hosts import RegistryHost

TYPE = "container_image"
SCHEME = "docker://"
_URL = re.compile(r"docker://(?P<registry>\[[^\]/]*\](?::\d+)?|[^/\[\]]+)/(?P<rest>.+)")
_REST = re.compile(r"(?P<repository>[^:@]+)(?::(?P<tag>[^:@]+))?(?:@(?P<digest>.+))?")
_BUILD = re.compile(r"([0-9a-f]{32})_")
#: What a registry tells of an image, beside what zuul-jobs' artifacts have.
MORE = ("digest", "media_type", "platforms")


@dataclass(frozen=True)
class ImageArtifact:
    """An image that another build has left in the intermediate registry."""

    image: TaggedImage
    registry: RegistryHost
    repository: str
    reference: str
    digest: str = ""
    #: By which change and job it was made, in words.
    origin: str = field(default="", compare=False)
    #: The change alone, with its patchset, or the ref.
    change: str = field(default="", compare=False)

    @property
    def build(self) -> str:
        """The build whose image it is, if the tag says so."""
        found = _BUILD.match(self.reference)
        return found[1] if found else ""

    @property
    def told(self) -> str:
        """The image and who made it, for a message."""
        build = f"build {self.build}" if self.build else "a build"
        return f"{self.image}, built by {build}{f' of {self.origin}' if self.origin else ''}"


def read_artifacts(given: Any) -> tuple[list[ImageArtifact], list[str]]:
    """Return the images that are to be pulled, and what is to be told of those that are not.

    Zuul lists those of the change furthest ahead first. Of a repository and tag that is there
    twice, the last one counts, as it does where they are copied one after the other; whether or not
    they name Docker Hub, which a buildset registry leaves out.
    """
    if not isinstance(given, (list, tuple)):
        raise ImagesError(f"zuul_artifacts is {shown(given)}; give a list of artifacts")
    images = [one for one in given if is_image(one)]
    last: dict[tuple[str, str], ImageArtifact] = {}
    notes = []
    for artifact in map(read_artifact, images):
        place = artifact.image.stored, artifact.image.tag
        before = last.pop(place, None)
        if before and before != artifact:
            notes.append(f"{before.told}, is not taken: {artifact.told}, comes after it")
        last[place] = artifact
    return list(last.values()), notes


def is_image(artifact: Any) -> bool:
    """Tell whether an artifact is a container image; other types are none of our business."""
    metadata = artifact.get("metadata") if isinstance(artifact, Mapping) else None
    return isinstance(metadata, Mapping) and metadata.get("type") == TYPE


def read_artifact(given: Mapping[str, Any]) -> ImageArtifact:
    """Read one of a container image; ImagesError says what it lacks and whose it is."""
    whose = f"the artifact {shown(given.get('name') or given.get('url') or 'without a name')}"
    origin = _origin(given)
    whose += f" of {origin}" if origin else ""
    metadata = given["metadata"]
    for key in ("repository", "tag"):
        if metadata.get(key) in (None, ""):
            raise ImagesError(f"{whose} has no metadata.{key}; {_MENDED}")
    repository = checked_repository(metadata["repository"], whose)
    image = TaggedImage(repository, checked_tag(metadata["tag"], f"{whose}: metadata.tag"))
    digest = _checked_digest(metadata.get("digest"), whose)
    located = _located(image, str(given.get("url") or ""), digest, whose, origin)
    return replace(located, change=_change(given))


_MENDED = "let the job that returned it do so by push_to_intermediate_registry"


def _checked_digest(value: Any, whose: str) -> str:
    try:
        return str(Digest.parse(str(value))) if value else ""
    except RegistryError as error:
        what = f"has the digest {shown(value)}, which is none"
        raise ImagesError(f"{whose} {what}; {_MENDED}") from error


def _located(image: TaggedImage, url: str, digest: str, whose: str, origin: str) -> ImageArtifact:
    found = _URL.fullmatch(url)
    rest = _REST.fullmatch(found["rest"]) if found else None
    if not found or not rest:
        raise ImagesError(f"{whose} has the url {shown(url)}, which names no image; {_MENDED}")
    registry = parse_host(found["registry"], f"{whose}: url")
    named = _checked_digest(rest["digest"], f"{whose}: url")
    if named and digest and named != digest:
        raise ImagesError(f"{whose} has two digests, {digest} and {named}; {_MENDED}")
    digest = digest or named
    # Both become parts of a path there, for which the login is used.
    repository = checked_repository(rest["repository"], f"{whose}: url")
    tag = checked_tag(rest["tag"], f"{whose}: the tag in the url") if rest["tag"] else ""
    return ImageArtifact(image, registry, repository, tag or digest or "latest", digest, origin)


def _origin(given: Mapping[str, Any]) -> str:
    """Tell by which job, change and project an artifact was made, as far as Zuul says so."""
    words = []
    if given.get("job"):
        words.append(f"job {given['job']}")
    if given.get("change"):
        words.append(f"change {_change(given)}")
    elif given.get("ref"):
        words.append(_change(given))
    if given.get("project"):
        words.append(f"project {given['project']}")
    return ", ".join(words)


def _change(given: Mapping[str, Any]) -> str:
    """Return the change that an artifact is of, or else the ref."""
    if given.get("change"):
        return (
            f"{given['change']}{',' if given.get('patchset') else ''}{given.get('patchset') or ''}"
        )
    return str(given.get("ref") or "")


def make_artifact(
    image: TaggedImage, registry: RegistryHost, build: str, told: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a build returns to Zuul of an image; ``told`` is what the registry has of it."""
    return {
        "name": str(image),
        "url": f"{SCHEME}{written(registry)}/{image.repository}:{built_tag(build, image.tag)}",
        "metadata": {
            "type": TYPE,
            "repository": image.repository,
            "tag": image.tag,
            **{key: told[key] for key in MORE if told.get(key)},
        },
    }


def not_returned(
    made: Iterable[dict[str, Any]], returned: Iterable[Any]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Leave out what this build has returned before, and say what has changed since.

    Zuul appends: it would have a repository and tag twice.
    """
    before = {str(one.get("name")): one["metadata"] for one in returned if is_image(one)}
    changed = [
        f"{one['name']} was returned as {before[one['name']].get('digest')} and is "
        f"{one['metadata'].get('digest')} now; push when everything is built"
        for one in made
        if one["name"] in before
        and before[one["name"]].get("digest", "") != one["metadata"].get("digest", "")
    ]
    return [one for one in made if one["name"] not in before], changed
