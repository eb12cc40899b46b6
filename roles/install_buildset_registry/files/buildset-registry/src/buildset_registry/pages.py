# SPDX-License-Identifier: Apache-2.0
"""Parts of lists that are too long to be told at once; pure."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from buildset_registry.oci.descriptor import Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import MAX_MANIFEST

#: Bytes of a list of referrers as JSON: clients read an index as large as a manifest, less what is
#: around the list.
_LARGEST_LIST = MAX_MANIFEST - 1024
#: Referrers about which one request asks the store, whether it lists them or not: in a bucket each
#: takes some requests, and a filter may match none of a hundred thousand.
_MOST_ASKED = 1000

_Place = TypeVar("_Place")


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


class CandidateReferrer(NamedTuple):
    """A manifest that is noted, or listed at upstream, as one that names another as its subject."""

    digest: str
    listed: Descriptor | None
    """What a list says of it; None where it is not there any more, or names another subject."""

    stored: bool
    """Whether the store was asked about it, not upstream's list alone."""


@dataclass(slots=True)
class ReferrersList:
    """A part of the list of a manifest's referrers; it may be short, or empty, and more follow.

    The distribution specification, section "Listing Referrers". Where ``artifact_type`` is given,
    only those of this type are listed.
    """

    artifact_type: str | None = None
    items: list[Descriptor] = field(default_factory=list)
    size: int = 0
    """Its bytes as JSON, about."""

    last: str | None = None
    """The digest up to which all were looked at."""

    more: bool = False
    """Whether some come after that."""

    _asked: int = 0

    def add(self, candidate: CandidateReferrer) -> bool:
        """Look at one, and list it where it is wanted; False where that is for the next part."""
        one = candidate.listed
        wanted = one is not None and self.artifact_type in (None, one.artifact_type)
        length = len(json.dumps(one.to_json())) if one is not None and wanted else 0
        full = bool(self.items) and self.size + length > _LARGEST_LIST
        self.more = full or self._asked >= _MOST_ASKED
        if self.more:
            return False
        if one is not None and wanted:
            self.items.append(one)
            self.size += length
        self._asked += candidate.stored
        self.last = candidate.digest
        return True


def by_digest(found: Iterable[tuple[_Place, Iterable[Digest]]]) -> dict[str, list[_Place]]:
    """Return the places of each digest, in their order."""
    places: dict[str, list[_Place]] = {}
    for place, digests in found:
        for digest in set(digests):
            places.setdefault(str(digest), []).append(place)
    return places


def after(keys: AbstractSet[str], last: str) -> list[str]:
    """Return those after ``last``, sorted."""
    return sorted(one for one in keys if one > last)
