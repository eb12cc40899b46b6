# SPDX-License-Identifier: Apache-2.0
"""Patterns of names: of repositories, where ``**`` is any number of components, and of tags."""

from __future__ import annotations

import re

from ..errors import NameInvalid, TagInvalid
from .hosts import DOCKER_HUB, RegistryHost
from .names import RepositoryName, Tag

_CHARACTERS = re.compile(r"[a-z0-9._*-]+(?:/[a-z0-9._*-]+)*")
_OF_DOCKER_HUB = f"{DOCKER_HUB}/"
_WILD = {"**": ".+", "*": "[^/]+"}
_OF_TAGS = re.compile(r"(?:[a-zA-Z0-9._*?-]|\{uuid\})+")
#: A UUID, with its dashes or, as Zuul writes those of its builds, without.
_UUID = "[a-f0-9]{8}(?:[a-f0-9]{24}|(?:-[a-f0-9]{4}){3}-[a-f0-9]{12})"
_WILD_IN_TAGS = {"*": ".*", "?": ".", "{uuid}": _UUID}


class RepositoryPattern(str):
    """A pattern as names are stored; that of Docker Hub's repositories alone has its host.

    ``*`` is any part of one component, ``**`` any number of components.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> RepositoryPattern:
        """Return the normal form; ``NameInvalid`` for what matches no name."""
        first, slash, rest = text.partition("/")
        pattern = f"{_registry(first)}/{rest}" if slash and _is_registry(first) else text
        if _CHARACTERS.fullmatch(pattern) is None:
            raise NameInvalid(f"{text[:80]!r} matches no repository's name")
        return cls(pattern)


class RepositoryMatcher:
    """Tells whether a repository's name matches a pattern."""

    def __init__(self, pattern: RepositoryPattern) -> None:
        self._of_docker_hub = pattern.startswith(_OF_DOCKER_HUB)
        parts = re.split(r"(\*\*|\*)", pattern.removeprefix(_OF_DOCKER_HUB))
        self._expression = re.compile("".join(_WILD.get(part) or re.escape(part) for part in parts))

    def matches(self, name: RepositoryName) -> bool:
        """Tell whether any of the names that the image has matches."""
        if self._of_docker_hub and name.host != DOCKER_HUB:
            return False
        return any(map(self._expression.fullmatch, name.names))


class TagPattern(str):
    """A pattern of tags: ``*`` is anything, ``?`` one character, ``{uuid}`` a UUID."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> TagPattern:
        """Check it; ``TagInvalid`` for what matches no tag."""
        if _OF_TAGS.fullmatch(text) is None:
            raise TagInvalid(f"{text[:80]!r} matches no tag")
        return cls(text)


class TagMatcher:
    """Tells whether a tag matches a pattern."""

    def __init__(self, pattern: TagPattern) -> None:
        parts = re.split(r"(\*|\?|\{uuid\})", pattern)
        wild = (_WILD_IN_TAGS.get(part) or re.escape(part) for part in parts)
        self._expression = re.compile("".join(wild))

    def matches(self, tag: Tag) -> bool:
        """Tell whether a tag is one of those that are meant."""
        return self._expression.fullmatch(tag) is not None


def _is_registry(first: str) -> bool:
    host = first.lower()
    return ":" in host or "." in host or host == "localhost" or "__" in host


def _registry(first: str) -> str:
    """Return what stands for a registry in stored names; for Docker Hub its host."""
    host = first.lower()
    if "*" in host:
        return host.replace(":", "__")
    found = RegistryHost.of_component(host) if "__" in host else RegistryHost.parse(host)
    if found is None:
        return host
    return str(found) if found == DOCKER_HUB else found.component
