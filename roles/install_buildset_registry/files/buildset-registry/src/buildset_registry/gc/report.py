# SPDX-License-Identifier: Apache-2.0
"""The report of a collection: what it removed, or would remove, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Removed:
    """Something that a user could have named, and why it went."""

    kind: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class JudgedImage:
    """A tag, and whether it stays or goes by the rules of retention."""

    name: str
    digest: str
    kept: bool
    rule: str
    """The rule that decided; nothing where none matches."""

    reason: str


@dataclass(slots=True)
class CollectionReport:
    """The outcome; of a dry run, what it would be."""

    dry_run: bool
    removed: list[Removed] = field(default_factory=list)
    """Uploads, tags, manifests and cached images."""

    images: list[JudgedImage] = field(default_factory=list)
    """What retention says of each image in a dry run; where nothing is removed for now, of those
    that would go."""

    notes: list[str] = field(default_factory=list)
    """What is to be known about the rules of retention, and why they remove nothing, if so."""

    blobs: int = 0
    """Blobs removed, and how many bytes that freed."""

    freed_bytes: int = 0
    links: int = 0
    """Links to removed blobs that were removed as well."""

    kept_blobs: int = 0
    kept_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    """What is broken; then no blob is removed, since what it referred to is not known."""

    seconds: float = 0.0

    def count(self, kind: str) -> int:
        """Return how many of a kind were removed."""
        return sum(one.kind == kind for one in self.removed)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> CollectionReport:
        """Return what ``to_json`` was made of."""
        removed = [Removed(**one) for one in tree["removed"]]
        images = [JudgedImage(**one) for one in tree.get("images", ())]
        return cls(**{**tree, "removed": removed, "images": images})
