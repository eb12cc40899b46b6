# SPDX-License-Identifier: Apache-2.0
"""Quotas: the room that the pushed images of some repositories take, and may take."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buildset_registry.errors import Denied
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.oci.patterns import RepositoryMatcher
from buildset_registry.retention.intake import Intake
from buildset_registry.store.documents import Documents

#: The name of the document, and the key in it that tells when the count began: no prefix's.
_NAME = "usage"
_BEGAN = "@began"


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
    """The gate of uploads: what the collector counted last, and what came since."""

    def __init__(
        self, documents: Documents, quotas: Sequence[Quota], intake: Intake | None = None
    ) -> None:
        self._documents = documents
        self._quotas = quotas
        self._intake = intake or Intake()
        self._counted: Mapping[str, int] = {}
        self._began = -math.inf
        self._counting: float | None = None
        self._at = 0.0

    @property
    def refuses(self) -> bool:
        """Tell whether there is a quota by which uploads are refused."""
        return any(quota.hard is not None for quota in self._quotas)

    def check(self, name: RepositoryName, size: int) -> None:
        """Raise ``Denied`` for an upload of so many bytes, 0 where that is not known."""
        for quota in self._quotas:
            if quota.hard is None or not quota.governs(name):
                continue
            used = self._counted.get(quota.prefix, 0) + self._intake.of(quota.prefix)
            if used + size > quota.hard or used == quota.hard:
                more = f", and this upload has {size}" if size else ""
                raise Denied(
                    f"the images of {quota.prefix} take {used} of the {quota.hard} bytes of their "
                    f"quota{more}; delete some, or have the quota raised (retention.quotas)"
                )

    def add(
        self,
        name: RepositoryName,
        size: int,
        digest: Digest | None = None,
        source: RepositoryName | None = None,
    ) -> None:
        """Count what was taken in; what came from ``source`` is nothing new to a quota of both."""
        for quota in self._quotas:
            known = source is not None and quota.governs(source)
            if quota.governs(name) and not known:
                self._intake.add(quota.prefix, size, digest)

    def begin(self) -> None:
        """Begin to count all: what comes from now on is not among it."""
        self._counting = self._intake.cut()

    async def refresh(self) -> None:
        """Take what was counted last, by whichever replica, and what others took in since."""
        if not self._quotas:
            return
        document = await self._documents.read(_NAME)
        if document is not None and document.changed != self._at:
            self._at = document.changed
            self._counted, began = _figures(document.content)
            self._began = self._intake.cut() if began is None else began
            self._intake.counted(self._began)
        if self.refuses:
            await self._intake.exchange(self._began)

    async def write(self, figures: Mapping[str, int]) -> None:
        """Keep what was counted."""
        began = self._intake.cut() if self._counting is None else self._counting
        self._counting = None
        await self._documents.write(_NAME, json.dumps({**figures, _BEGAN: began}).encode())
        await self.refresh()
        await self._intake.forget(began)


def _figures(content: bytes) -> tuple[Mapping[str, int], float | None]:
    """Return what was counted, and when that began; an older release does not tell it."""
    try:
        tree = json.loads(content)
        began = float(tree.pop(_BEGAN)) if _BEGAN in tree else None
        return {str(prefix): int(size) for prefix, size in tree.items()}, began
    except (ValueError, TypeError, AttributeError):
        return {}, None
