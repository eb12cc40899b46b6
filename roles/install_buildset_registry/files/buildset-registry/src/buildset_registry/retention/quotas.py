# SPDX-License-Identifier: Apache-2.0
"""Quotas: the room that the pushed images of some repositories take, and may take."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buildset_registry.errors import Denied
from buildset_registry.oci.names import RepositoryName
from buildset_registry.oci.patterns import RepositoryMatcher
from buildset_registry.store.documents import Documents

#: The name of the document.
_NAME = "usage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A quota, in bytes."""

    prefix: str
    repositories: Sequence[RepositoryMatcher]
    soft: int | None = None
    hard: int | None = None

    def governs(self, name: RepositoryName) -> bool:
        """Tell whether a repository's content counts."""
        return any(one.matches(name) for one in self.repositories)


class QuotaGuard:
    """The gate of uploads: what the collector counted last, and what came since.

    Until it has counted, what this process took in counts alone.
    """

    def __init__(self, documents: Documents, quotas: Sequence[Quota]) -> None:
        self._documents = documents
        self._quotas = quotas
        self._counted: Mapping[str, int] = {}
        self._since: Counter[str] = Counter()
        self._at = 0.0

    def check(self, name: RepositoryName, size: int) -> None:
        """Raise ``Denied`` for an upload of so many bytes, 0 where that is not known."""
        for quota in self._quotas:
            if quota.hard is None or not quota.governs(name):
                continue
            used = self._counted.get(quota.prefix, 0) + self._since[quota.prefix]
            if used + size > quota.hard or used == quota.hard:
                more = f", and this upload has {size}" if size else ""
                raise Denied(
                    f"the images of {quota.prefix} take {used} of the {quota.hard} bytes of their "
                    f"quota{more}; delete some, or have the quota raised (retention.quotas)"
                )

    def add(self, name: RepositoryName, size: int) -> None:
        """Count what was taken in."""
        for quota in self._quotas:
            if quota.governs(name):
                self._since[quota.prefix] += size

    async def refresh(self) -> None:
        """Take what was counted last, by whichever replica."""
        if not self._quotas:
            return
        document = await self._documents.read(_NAME)
        if document is not None and document.changed != self._at:
            self._at, self._counted = document.changed, _figures(document.content)
            self._since.clear()

    async def write(self, figures: Mapping[str, int]) -> None:
        """Keep what was counted."""
        await self._documents.write(_NAME, json.dumps(dict(figures)).encode())
        await self.refresh()


def _figures(content: bytes) -> Mapping[str, int]:
    try:
        return {str(prefix): int(size) for prefix, size in json.loads(content).items()}
    except (ValueError, TypeError, AttributeError):
        return {}
