# SPDX-License-Identifier: Apache-2.0
"""Removals by rules: why something is gone, and what of a removal is not done yet.

A document for each repository, written before anything is removed: a removal that was broken off is
known by it and goes on, and who asks for what is gone is told of the day and the rule.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from buildset_registry.errors import RegistryError
from buildset_registry.latest import Latest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Reference, RepositoryName
from buildset_registry.pacing import aside
from buildset_registry.store.documents import Documents, read_content

#: Removals of a repository that are remembered, those of the last days.
_MOST = 10_000
#: Seconds for which a document is taken to be as it was, and how many are held at once.
_FRESH = 10.0
_HELD = 64


@dataclass(slots=True)
class RepositoryRemovals:
    """The removals of a repository."""

    gone: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The day and the rule, by tag or digest; the last ones at the end."""

    unfinished: set[Digest] = field(default_factory=set)
    """The images that lost their last tag, and may still be there."""

    def to_json(self) -> bytes:
        """Return it as it is kept."""
        for old in list(self.gone)[: max(0, len(self.gone) - _MOST)]:
            del self.gone[old]
        unfinished = sorted(map(str, self.unfinished))
        return json.dumps({"gone": self.gone, "unfinished": unfinished}).encode()

    @classmethod
    def from_json(cls, content: bytes) -> RepositoryRemovals:
        """Return what ``to_json`` was made of; nothing where it is broken."""
        try:
            tree = json.loads(content)
            gone = {str(one): (str(day), str(rule)) for one, (day, rule) in tree["gone"].items()}
            return cls(gone, {Digest.parse(one) for one in tree["unfinished"]})
        except (ValueError, TypeError, KeyError, AttributeError, RegistryError):
            return cls()


class Removals:
    """The removals of all repositories."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._held: Latest[str, tuple[RepositoryRemovals, float]] = Latest(_HELD)

    async def of(self, name: RepositoryName) -> RepositoryRemovals:
        """Return those of a repository as they are now."""
        content = await read_content(self._documents, _document(name)) or b""
        return await aside(len(content), partial(RepositoryRemovals.from_json, content))

    async def write(self, name: RepositoryName, removals: RepositoryRemovals) -> None:
        """Keep those of a repository."""
        await self._documents.write(_document(name), removals.to_json())
        self._held.pop(name, None)

    async def told(self, name: RepositoryName, reference: Reference) -> str:
        """Return what a message says of something that is not there; mostly nothing."""
        for one in name.names:
            found = (await self._recent(one)).gone.get(str(reference))
            if found is not None:
                return f"; it was removed on {found[0]} by {found[1]} of the retention"
        return ""

    async def _recent(self, name: RepositoryName) -> RepositoryRemovals:
        """Return those of a repository as they were a moment ago: clients ask again and again."""
        held, until = self._held.get(name, (None, 0.0))
        if held is None or time.monotonic() > until:
            held = await self.of(name)
            self._held[name] = (held, time.monotonic() + _FRESH)
        return held


def noted(references: Iterable[Reference], today: str, rule: str) -> Mapping[str, tuple[str, str]]:
    """Return what is remembered of references that a rule has removed."""
    return {str(reference): (today, rule) for reference in references}


def _document(name: RepositoryName) -> str:
    """Return the name of a repository's document, which has no slash."""
    return f"removed-{hashlib.sha256(name.encode()).hexdigest()}"
