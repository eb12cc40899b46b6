# SPDX-License-Identifier: Apache-2.0
"""Names of images as people write them: in a registry, or in a folder in the OCI image layout.

``[docker://][http://]host[:port]/repository[:tag][@digest]`` and ``oci:DIR[:ref]``. A name without
a host is one of Docker Hub, as everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from ..errors import RegistryError
from ..oci.digest import Digest
from ..oci.hosts import DOCKER_HUB, RegistryHost
from ..oci.names import RepositoryName, Tag
from .errors import TransferError

LATEST = "latest"
LONGEST_TAG = 128
_DOCKER_HUB_API = "registry-1.docker.io"
#: The annotation org.opencontainers.image.ref.name, as the image specification has it.
_REF = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@/+]|--)[A-Za-z0-9]+)*")
#: A login as addresses have it; after a digest there is no slash.
_LOGIN = re.compile(r"(?:^|//)[^/@]*:[^/@]*@[^/@]+/")


@dataclass(frozen=True)
class RegistryImage:
    """An image in a registry, or a repository there where neither tag nor digest is named."""

    host: RegistryHost
    repository: str
    tag: Tag | None = None
    digest: Digest | None = None
    tls: bool = True

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{'' if self.tls else 'http://'}{self.host}/{self.repository}{tag}{digest}"

    @property
    def url(self) -> str:
        """The address of the registry's server."""
        host = _DOCKER_HUB_API if self.host == DOCKER_HUB else self.host
        return f"{'https' if self.tls else 'http'}://{host}"

    @property
    def reference(self) -> Tag | Digest:
        """The reference to ask by: a digest says more than a tag."""
        return self.digest or self.tag or Tag(LATEST)


@dataclass(frozen=True)
class LayoutImage:
    """An image in a folder in the OCI image layout; without a ref, the only one there."""

    folder: str
    ref: str | None = None

    def __str__(self) -> str:
        return f"oci:{self.folder}{f':{self.ref}' if self.ref else ''}"


ImageName: TypeAlias = "RegistryImage | LayoutImage"


@dataclass(frozen=True)
class CopyRequest:
    """An image to copy, and where to."""

    source: ImageName
    destination: ImageName


def parse_image(text: str) -> ImageName:
    """Read a name; ``TransferError`` says what is wrong with it."""
    if text.startswith("oci:"):
        return _layout(text.removeprefix("oci:"))
    if _LOGIN.search(text):
        raise TransferError("an image is named without a login; log in first, or give --authfile")
    rest = text.removeprefix("docker://")
    tls = not rest.startswith("http://")
    for scheme in ("http://", "https://"):
        rest = rest.removeprefix(scheme)
    path, at, digest = rest.partition("@")
    path, tag = _split_tag(path)
    host, repository = _split_host(path)
    try:
        image = RegistryImage(
            RegistryHost.parse(host) if tls else _plain(host),
            str(RepositoryName.parse(repository)),
            _tag(tag) if tag is not None else None,
            Digest.parse(digest) if at else None,
            tls,
        )
    except RegistryError as error:
        raise TransferError(f"{text[:300]!r} names no image: {error.message}") from None
    if image.host == DOCKER_HUB and "/" not in repository:
        return replace(image, repository=f"library/{repository}")
    return image


def requests(sources: Sequence[str], destination: str) -> list[CopyRequest]:
    """Pair each source with where it goes.

    A destination that ends in ``/`` is a place for repositories: each keeps its name. One without
    a tag takes the source's.
    """
    found = [parse_image(source) for source in sources]
    place = destination.endswith("/") and not destination.startswith("oci:")
    pairs = []
    for source in found:
        target = parse_image(destination + _kept_name(source) if place else destination)
        if len(found) > 1 and not place and _says_which(target):
            raise TransferError(
                f"{target} is one image, and there are {len(found)} sources; "
                "leave out the tag of the destination, so that each keeps its own"
            )
        pairs.append(CopyRequest(source, _with_reference(target, source, several=len(found) > 1)))
    _refuse_twice(pairs)
    return pairs


def check_tag(text: str) -> Tag:
    """Return a valid tag, or say in one line what is wrong with it."""
    try:
        return _tag(text)
    except RegistryError as error:
        raise TransferError(error.message) from None


def _refuse_twice(pairs: Sequence[CopyRequest]) -> None:
    seen: dict[ImageName, CopyRequest] = {}
    for pair in pairs:
        other = seen.setdefault(pair.destination, pair)
        if other.source != pair.source:
            raise TransferError(
                f"{other.source} and {pair.source} would both become {pair.destination}; "
                "copy them one by one"
            )


def _says_which(image: ImageName) -> bool:
    if isinstance(image, LayoutImage):
        return image.ref is not None
    return image.tag is not None or image.digest is not None


def _with_reference(target: ImageName, source: ImageName, *, several: bool) -> ImageName:
    """Return the destination with the source's tag where it has none of its own."""
    kept = source.ref if isinstance(source, LayoutImage) else source.tag
    if isinstance(target, LayoutImage):
        return target if target.ref or not (several or kept) else replace(target, ref=kept)
    if target.tag or target.digest:
        return target
    return replace(target, tag=check_tag((kept or LATEST).rpartition(":")[2]))


def _kept_name(source: ImageName) -> str:
    if isinstance(source, LayoutImage):
        raise TransferError(f"{source} has no repository; say at the destination which it is to be")
    if source.digest and not source.tag:
        return f"{source.repository}@{source.digest}"
    return f"{source.repository}:{source.tag or LATEST}"


def _layout(text: str) -> LayoutImage:
    """Read ``DIR[:ref]``: what follows the first colon is the ref, as skopeo has it."""
    folder, colon, ref = text.partition(":")
    if not folder:
        raise TransferError(f"{f'oci:{text}'!r} names no folder; write oci:DIR or oci:DIR:REF")
    if colon and _REF.fullmatch(ref) is None:
        raise TransferError(f"{ref[:300]!r} is no ref of an OCI layout (letters, digits, -._:@/+)")
    return LayoutImage(folder, ref if colon else None)


def _split_tag(path: str) -> tuple[str, str | None]:
    head, slash, last = path.rpartition("/")
    name, colon, tag = last.partition(":")
    return (f"{head}{slash}{name}", tag) if colon and slash else _bare(path)


def _bare(path: str) -> tuple[str, str | None]:
    """Split ``name:tag`` of Docker Hub; with a slash there is no tag."""
    if "/" in path:
        return path, None
    name, colon, tag = path.partition(":")
    return name, tag if colon else None


def _split_host(path: str) -> tuple[str, str]:
    first, slash, rest = path.partition("/")
    if slash and ("." in first or ":" in first or first.lower() == "localhost"):
        return first, rest
    return str(DOCKER_HUB), path


def _plain(text: str) -> RegistryHost:
    """Return a registry without TLS, for which the port of HTTPS is one to be said."""
    host = RegistryHost.parse(text)
    return RegistryHost(f"{host}:443") if text.endswith(":443") else host


def _tag(text: str) -> Tag:
    if len(text) > LONGEST_TAG:
        raise TransferError(
            f"the tag {text[:40]}... has {len(text)} characters; the most is {LONGEST_TAG}, "
            "so take a shorter one"
        )
    return Tag.parse(text)
