# SPDX-License-Identifier: Apache-2.0
"""The report of a collection: what it removed, or would remove, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

#: Problems that are kept of the last collection.
_SHOWN_PROBLEMS = 20


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

    attention: list[str] = field(default_factory=list)
    """Those of the notes that somebody has to do something about: a clock, a quota, a disk."""

    incomplete: bool = False
    """Whether rules of retention broke off; the next collection goes on with them."""

    blobs: int = 0
    """Blobs removed, and how many bytes that freed."""

    freed_bytes: int = 0
    links: int = 0
    """Links to removed blobs that were removed as well."""

    kept_blobs: int = 0
    kept_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    """What is broken; then no blob is removed, since what it referred to is not known."""

    misnamed: list[str] = field(default_factory=list)
    """Repositories that nobody can ask for by their names; what they hold stays."""

    seconds: float = 0.0

    def count(self, kind: str) -> int:
        """Return how many of a kind were removed."""
        return sum(one.kind == kind for one in self.removed)

    def break_off(self, note: str) -> None:
        """Note what of the rules of retention could not be done, and why."""
        self.incomplete = True
        self.notes.append(note)
        self.attention.append(note)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> CollectionReport:
        """Return what ``to_json`` was made of."""
        removed = [Removed(**one) for one in tree["removed"]]
        images = [JudgedImage(**one) for one in tree.get("images", ())]
        return cls(**{**tree, "removed": removed, "images": images})


@dataclass(slots=True)
class CollectionHistory:
    """The collections of a process since it started; dry runs are not among them."""

    done: int = 0
    """Collections that removed what nothing refers to."""

    damaged: int = 0
    """Collections that removed no blob, since something is broken."""

    failed: int = 0
    """Collections that broke off."""

    freed_bytes: int = 0
    ended: float | None = None
    """When one came to its end last, in seconds since the epoch."""

    broken: int = 0
    """How many things the last one saw that are broken."""

    problems: list[str] = field(default_factory=list)
    """The first of them, in words."""

    attention: list[str] = field(default_factory=list)
    """What somebody has to do something about, that its rules of retention go on."""

    error: str | None = None
    """Why the last one broke off; None where it did not."""

    def add(self, report: CollectionReport, now: float) -> None:
        """Note a collection that came to its end."""
        if report.dry_run:
            return
        if report.problems:
            self.damaged += 1
        else:
            self.done += 1
        self.freed_bytes += report.freed_bytes
        self.ended, self.error = now, None
        self.broken, self.problems = len(report.problems), report.problems[:_SHOWN_PROBLEMS]
        self.attention = report.attention[:_SHOWN_PROBLEMS]

    def fail(self, error: str) -> None:
        """Note a collection that broke off."""
        self.failed += 1
        self.error = error
