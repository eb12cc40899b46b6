# SPDX-License-Identifier: Apache-2.0
"""The intake since the collector counted last: what quotas have to add to its figures.

Each process keeps its own in slices of some seconds, and tells the others by a document of its own;
that of a process which has ended tells what came before a restart. What came before a count began
is in the count.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from buildset_registry.oci.digest import Digest
from buildset_registry.store.documents import Documents

#: Slices that are kept, past which the oldest become one; and blobs of one that count once.
_MOST = 400
_REMEMBERED = 10_000
#: Times of slices differ by this at least.
_INSTANT = 1e-6


@dataclass(slots=True)
class _Slice:
    """The bytes that came up to a time, by the prefix of the quota."""

    end: float
    taken: Counter[str]
    seen: set[tuple[str, Digest]] = field(default_factory=set)


class Intake:
    """The intake of this process, and of others as they tell; ``documents`` may be none."""

    def __init__(
        self, documents: Documents | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._documents = documents
        self._now = now
        self._name = secrets.token_hex(8)
        self._slices: list[_Slice] = []
        self._others: list[_Slice] = []
        self._open = False
        self._changed = False
        self._cut = -math.inf

    def add(self, prefix: str, size: int, digest: Digest | None = None) -> None:
        """Count bytes for a quota; a blob that came before is no more of them."""
        if digest is not None and any((prefix, digest) in one.seen for one in self._slices):
            return
        if not self._open:
            self._slices.append(_Slice(0.0, Counter()))
            self._open = True
        last = self._slices[-1]
        last.end = max(self._now(), self._cut + _INSTANT)
        last.taken[prefix] += size
        if digest is not None and len(last.seen) < _REMEMBERED:
            last.seen.add((prefix, digest))
        self._changed = True

    def of(self, prefix: str) -> int:
        """Return the bytes that count for a quota."""
        return sum(one.taken[prefix] for one in (*self._slices, *self._others))

    def cut(self) -> float:
        """Begin to count: return the time that tells what came before from what comes later."""
        self._open = False
        ended = self._slices[-1].end if self._slices else -math.inf
        self._cut = max(self._now(), ended)
        return self._cut

    def counted(self, began: float) -> None:
        """Forget what a count has that began at a time."""
        kept = [one for one in self._slices if one.end > began]
        self._changed = self._changed or len(kept) < len(self._slices)
        self._slices = kept
        self._open = self._open and bool(kept)
        self._others = [one for one in self._others if one.end > began]

    async def exchange(self, began: float) -> None:
        """Tell the others what came here, and hear what came there, since a count began."""
        if self._documents is None:
            return
        names = await self._documents.names()
        # Whoever forgets what it has counted may have removed what was told just then.
        if self._changed or (self._slices and self._name not in names):
            self._open = False
            while len(self._slices) > _MOST:
                first, second = self._slices[:2]
                self._slices[:2] = [_Slice(second.end, first.taken + second.taken)]
            self._changed = False
            try:
                await self._tell(self._documents)
            except OSError:
                self._changed = True
                raise
        others: list[_Slice] = []
        for name in names:
            found = await self._documents.read(name) if name != self._name else None
            others += _load(found.content) if found else []
        self._others = [one for one in others if one.end > began]

    async def _tell(self, documents: Documents) -> None:
        if self._slices:
            await documents.write(self._name, _dump(self._slices))
        else:
            await documents.remove(self._name)

    async def forget(self, began: float) -> None:
        """Remove what others told, all of which is counted; who lives tells more when there is."""
        if self._documents is None:
            return
        for name in await self._documents.names():
            found = await self._documents.read(name) if name != self._name else None
            if found and all(one.end <= began for one in _load(found.content)):
                await self._documents.remove(name)


def _dump(slices: Sequence[_Slice]) -> bytes:
    return json.dumps([[one.end, one.taken] for one in slices]).encode()


def _load(content: bytes) -> list[_Slice]:
    """Return what was told; nothing where it is broken."""
    try:
        return [
            _Slice(float(end), Counter({str(prefix): int(size) for prefix, size in taken.items()}))
            for end, taken in json.loads(content)
        ]
    except (ValueError, TypeError, AttributeError):
        return []
