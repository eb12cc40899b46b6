# SPDX-License-Identifier: Apache-2.0
"""Parts of lists that are too long to be told at once; pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from buildset_registry.oci.descriptor import Descriptor


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a sorted list, and whether more follows."""

    items: Sequence[str]
    more: bool

    @classmethod
    def of(cls, lists: Sequence[Sequence[str]], limit: int | None, last: str | None) -> Page:
        """Cut the page of ``limit`` items that come after ``last`` out of sorted lists.

        The cost is that of the page, not of the lists.
        """
        parts = []
        for items in lists:
            start = 0 if last is None else bisect_right(items, last)
            parts.append(items[start : None if limit is None else start + limit + 1])
        found = parts[0] if len(parts) == 1 else sorted({item for part in parts for item in part})
        if limit is None:
            return cls(found, False)
        return cls(found[:limit], 0 < limit < len(found))


@dataclass(frozen=True, slots=True)
class ReferrersList:
    """A part of the list of a manifest's referrers, and whether more follows."""

    items: Sequence[Descriptor]
    size: int
    """Its bytes as JSON, about."""

    more: bool
