# SPDX-License-Identifier: Apache-2.0
"""Repository names, tags and references: the grammars of the distribution specification.

Grammar (section "Pulling manifests")::

    name   [a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(\\/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*
    tag    [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}

A name is at most 255 characters, as distribution and the clients have it.

One store serves docker's tools and OCI tools at once, so a name may carry its registry in the
first component (``quay.io/org/app``), and Docker Hub's repositories carry none:
``docker.io/org/app`` is stored as ``org/app``, as distribution stores it. A port cannot be written
in a name: the registry ``host:5000`` is stored as ``host__5000``, which neither a host nor a user
of Docker Hub can be called (``hosts``).
"""

from __future__ import annotations

import re
import time
import uuid
from functools import lru_cache
from typing import TypeAlias

from ..errors import BlobUploadUnknown, NameInvalid, TagInvalid
from .digest import Digest
from .hosts import DOCKER_HUB, RegistryHost

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_UPLOAD = re.compile(r"[a-f0-9]{8}(-[a-f0-9]{4}){3}-[a-f0-9]{12}")
_NAME_LENGTH = 255
#: Names and references that were looked at a short while ago: clients ask for the same again.
_REMEMBERED = 1024


class RepositoryName(str):
    """A valid ``<name>``, in the form in which it is stored."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> RepositoryName:
        """Check ``text`` against the grammar; ``NameInvalid`` says what is wrong."""
        if len(text) > _NAME_LENGTH:
            raise NameInvalid(f"repository name is longer than {_NAME_LENGTH} characters")
        if _NAME.fullmatch(text) is None:
            raise NameInvalid(f"not a repository name: {text[:80]!r}")
        return cls(text)

    @classmethod
    @lru_cache(_REMEMBERED)
    def resolve(cls, path: str, namespace: str | None = None) -> RepositoryName:
        """Return the stored name of the repository that a client asks for.

        ``path`` is the name in the URL, ``namespace`` the registry that containerd names by
        ``?ns=``; a namespace always says which registry is meant. Clients that are configured with
        a mirror at a path, ``host:port/quay.io``, name that registry in both.
        """
        name = cls.parse(path)
        meant = DOCKER_HUB if namespace is None else RegistryHost.parse(namespace)
        named, rest = _split(name)
        if meant != DOCKER_HUB:
            return cls.parse(f"{meant.component}/{rest if named == meant else name}")
        while named == DOCKER_HUB:
            name = cls(rest)
            named, rest = _split(name)
        return name if named is None else cls.parse(f"{named.component}/{rest}")

    @classmethod
    def scoped(cls, resource: str) -> RepositoryName:
        """Return the stored name of the repository that a token's scope names.

        There, unlike in a URL, the registry may have its port (distribution's "Token Scope
        Documentation").
        """
        first, _separator, rest = resource.partition("/")
        return cls.resolve(rest, first) if ":" in first and rest else cls.resolve(resource)

    @property
    def host(self) -> RegistryHost:
        """The registry that the name belongs to."""
        return _host(self)

    @property
    def remote(self) -> str:
        """The name of the repository at its own registry."""
        if self.host != DOCKER_HUB:
            return self.partition("/")[2]
        return str(self) if "/" in self else f"library/{self}"

    @property
    def names(self) -> tuple[RepositoryName, ...]:
        """All stored names of this repository, its own first.

        ``app`` and ``library/app`` are one image of Docker Hub; each is stored as it was pushed.
        """
        return _names(self)

    @property
    def canonical(self) -> RepositoryName:
        """The one name under which upstream's content of this repository is stored."""
        return RepositoryName(self.remote) if self.host == DOCKER_HUB else self


@lru_cache(_REMEMBERED)
def _host(name: RepositoryName) -> RegistryHost:
    return _split(name)[0] or DOCKER_HUB


def _split(name: str) -> tuple[RegistryHost | None, str]:
    """Return the registry that a name has, and the rest; None where it has none."""
    first, _separator, rest = name.partition("/")
    return (RegistryHost.of_component(first) if rest else None), rest


@lru_cache(_REMEMBERED)
def _names(name: RepositoryName) -> tuple[RepositoryName, ...]:
    if "/" not in name:
        return name, RepositoryName(f"library/{name}")
    first, _separator, rest = name.partition("/")
    if first == "library" and "/" not in rest:
        return name, RepositoryName(rest)
    return (name,)


class Tag(str):
    """A valid tag."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Tag:
        """Check ``text`` against the grammar; ``TagInvalid`` says what is wrong."""
        if _TAG.fullmatch(text) is None:
            raise TagInvalid(f"not a tag: {text[:140]!r}")
        return cls(text)


Reference: TypeAlias = "Tag | Digest"


def referrers_tag(subject: Digest) -> Tag:
    """Return the tag under which clients list referrers where a registry does not itself.

    The distribution specification, section "Referrers Tag Schema".
    """
    return Tag(f"{subject.algorithm}-{subject.hex[:64]}")


def cosign_tags(subject: Digest) -> list[Tag]:
    """Return the tags under which cosign keeps signatures, attestations and SBOMs of a manifest."""
    return [Tag(f"{referrers_tag(subject)}{suffix}") for suffix in (".sig", ".att", ".sbom")]


@lru_cache(_REMEMBERED)
def parse_reference(text: str) -> Reference:
    """Parse the last part of a manifest's URL: a digest if it has a colon, else a tag."""
    return Digest.parse(text) if ":" in text else Tag.parse(text)


class UploadId(str):
    """The identifier of an upload session: a UUID in lower-case hexadecimal with dashes.

    One that is made here is of version 7 (RFC 9562, section 5.7), which tells when.
    """

    __slots__ = ()

    @classmethod
    def new(cls) -> UploadId:
        """Return one that nobody has."""
        milliseconds, random = time.time_ns() // 1_000_000, uuid.uuid4().int & (1 << 76) - 1
        return cls(uuid.UUID(int=milliseconds << 80 | 7 << 76 | random))

    @property
    def made(self) -> float | None:
        """When it was made, in seconds since the epoch, or None where it does not tell."""
        told = uuid.UUID(self)
        return (told.int >> 80) / 1000 if told.version == 7 else None

    @classmethod
    def parse(cls, text: str) -> UploadId:
        """Check the form, so that no path can hide in it; ``BlobUploadUnknown`` otherwise."""
        if _UPLOAD.fullmatch(text) is None:
            raise BlobUploadUnknown
        return cls(text)
