# SPDX-License-Identifier: Apache-2.0
"""Records of a store about its content: who holds blobs, and notes of what was found out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from buildset_registry.store.holders import Holders


@dataclass(frozen=True, slots=True)
class Note:
    """A note, and when it was written by the clock that stamps what is stored."""

    content: bytes
    changed: float


class Notes(Protocol):
    """Small documents of the registry about what is stored, by names without a slash.

    Each is replaced as a whole, and seen by all processes; of two at once, the last one counts.
    """

    async def read(self, name: str) -> Note | None:
        """Return a note as it is now, or None where there is none."""

    async def write(self, name: str, content: bytes) -> None:
        """Write a note in place of any other."""


class Records(Protocol):
    """The things that are known of what is kept."""

    @property
    def holders(self) -> Holders:
        """Return what remembers where blobs were linked; each link that is made is added."""

    @property
    def notes(self) -> Notes:
        """Return what lasts of what the registry finds out about its content."""
