# SPDX-License-Identifier: Apache-2.0
"""The lock file: ``images.lock.json``, small, sorted and canonical, so that two can be compared.

::

    {"version": 1, "images": {"docker.io/library/python:3": {"digest": "sha256:...",
     "first_seen": "2026-11-29", "media_type": "...", "platforms": ["linux/amd64"],
     "source": "docker.io"}}}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from buildset_registry.errors import ConfigError, RegistryError
from buildset_registry.oci.descriptor import is_media_type
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag

VERSION = 1
#: The name of the file, where none is given.
USUAL_NAME = "images.lock.json"
#: Characters of a wrong value that a message shows.
_SHOWN = 120
_REMEMBERED = 1024


class PublicName(NamedTuple):
    """A tag of an upstream by its public name: ``docker.io/library/python:3``."""

    name: RepositoryName
    tag: Tag

    @classmethod
    @lru_cache(_REMEMBERED)
    def parse(cls, text: str) -> PublicName:
        """Read a name with its tag; what clients shorten for Docker Hub may be short here, too."""
        repository, separator, tag = text.rpartition(":")
        if not separator or "/" in tag:
            raise RegistryError("it has no tag")
        if "@" in repository:
            raise RegistryError("it has a digest beside its tag")
        return cls(RepositoryName.scoped(repository).canonical, Tag.parse(tag))

    @property
    def repository(self) -> str:
        """The public name of the repository."""
        return f"{self.name.host}/{self.name.remote}"

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True)
class LockedImage:
    """The manifest that a tag had; of an index, not that of a platform."""

    digest: Digest
    media_type: str | None = None
    platforms: tuple[str, ...] = ()
    """Such as ``linux/arm/v7``, sorted; none where they are not known."""

    source: str | None = None
    """The registry that it came from."""

    first_seen: str | None = None
    """The day in UTC on which it was pinned; as it was in the lock that was replayed."""

    def to_json(self) -> dict[str, object]:
        """Return it as the file has it."""
        return {
            "digest": str(self.digest),
            "media_type": self.media_type,
            "platforms": list(self.platforms),
            "source": self.source,
            "first_seen": self.first_seen,
        }


@dataclass(frozen=True, slots=True)
class ImageLock:
    """The images of a buildset by name, and the file that they were read from."""

    images: Mapping[PublicName, LockedImage] = field(default_factory=dict)
    source: str = USUAL_NAME

    def dump(self) -> str:
        """Return the text of the file: the same for the same images."""
        images = {str(name): image.to_json() for name, image in self.images.items()}
        tree = {"version": VERSION, "images": images}
        return json.dumps(tree, indent=2, sort_keys=True, ensure_ascii=True) + "\n"

    @classmethod
    def load(cls, path: Path) -> ImageLock:
        """Read a file; ``ConfigError`` says in a line what is wrong with it, and where."""
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"cannot read the lock {path}: {error.strerror}; buildset-registry lock --output "
                "FILE writes one"
            ) from None
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"the lock {path} is not UTF-8: byte {error.start} is no text"
            ) from None
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, source: str) -> ImageLock:
        """Read the text of a file that messages call ``source``."""
        tree = _object(_read_json(text, source), f"the lock {source}")
        version = tree.get("version")
        if isinstance(version, (bool, float)) or version != VERSION:
            raise ConfigError(
                f"the lock {source} is of version {_shown(version)}, and this program knows "
                f"version {VERSION}; write it again with buildset-registry lock"
            )
        images: dict[PublicName, LockedImage] = {}
        for key, entry in _object(tree.get("images"), f"the lock {source}: images").items():
            where = f"the lock {source}: images[{_shown(key)}]"
            try:
                name = PublicName.parse(key)
            except RegistryError as error:
                raise ConfigError(
                    f"{where} is not the name of an image: {error.message}; "
                    "write registry/repository:tag"
                ) from None
            if name in images:
                raise ConfigError(f"{where} is {name}, which the lock has already; keep one")
            images[name] = _image(entry, where)
        return cls(images, source)


def _read_json(text: str, source: str) -> object:
    """Read JSON in which no name is there twice."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        tree = dict(pairs)
        if len(tree) != len(pairs):
            names = [name for name, _value in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"the lock {source} has {_shown(twice)} twice; keep one of them")
        return tree

    try:
        found: object = json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"the lock {source} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except (ValueError, RecursionError):
        raise ConfigError(f"the lock {source} is not JSON that a lock can be") from None
    return found


def _image(entry: object, where: str) -> LockedImage:
    tree = _object(entry, where)

    def text(key: str, holds: Callable[[str], object] = bool) -> str | None:
        value = tree.get(key)
        if value is None or (isinstance(value, str) and holds(value)):
            return value
        raise ConfigError(f"{where}.{key} is {_shown(value)}; write the lock again")

    platforms = tree.get("platforms") or []
    if not isinstance(platforms, list) or not all(isinstance(one, str) for one in platforms):
        raise ConfigError(f"{where}.platforms is {_shown(platforms)}, which is no list of names")
    try:
        digest = Digest.parse(str(tree.get("digest")))
    except RegistryError as error:
        raise ConfigError(f"{where}.digest: {error.message}") from None
    return LockedImage(
        digest, text("media_type", is_media_type), tuple(platforms), text("source"),
        text("first_seen"),
    )  # fmt: skip


def _object(tree: object, where: str) -> dict[str, object]:
    if not isinstance(tree, dict):
        raise ConfigError(f"{where} is {_shown(tree)}, which is no JSON object")
    return tree


def _shown(value: object) -> str:
    """Return a value for a message of one line, whatever is in it."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
