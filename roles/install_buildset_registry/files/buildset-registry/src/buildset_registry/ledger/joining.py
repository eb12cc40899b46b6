# SPDX-License-Identifier: Apache-2.0
"""Requests become rows: what a client asks for one image, one after the other, is one row.

docker and containerd ask for the tag by HEAD and then by digest for the index and the manifest of
their platform, podman begins with GET, and all of them fetch the layers afterwards. These belong
together where client, user, agent and repository are the same, and the digest is that of the row or
in it: the manifests that its index lists, the layers of these. A tag that is asked for again once
something followed, or after a while, or in the same way, is another pull, and so another row: a
client that has an image already asks for its tag alone.
"""

from __future__ import annotations

import math
import uuid
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from buildset_registry.latest import Latest
from buildset_registry.ledger.rows import Row, Seen, Sighting, clipped, stamp
from buildset_registry.oci.descriptor import INDEXES

#: Seconds within which a tag that is asked for again in another way is the same pull, where nothing
#: followed: some ask by HEAD, and then by GET.
_SAME = 10.0
#: Seconds within which it is the same pull, however it is asked for: a build for several platforms
#: asks once for each of them, all at once.
_AT_ONCE = 0.25
#: Seconds within which an image is asked for by digest after its tag.
_FOLLOWS = 60.0
#: Seconds after which nothing belongs to a row any more: a layer may take that long.
_LATEST = 1800.0
#: Rows that something may still belong to, of all clients and of one.
_MOST_OPEN = 4096
_MOST_OF_ONE = 64
#: Manifests of one index that a row names.
_MOST_MANIFESTS = 64
#: Blobs by which a row is found; one of more takes no further ones.
_MOST_BLOBS = 500
#: Seconds that what is missed again and again waits at most to be told again: a client may ask for
#: hours until an image is there.
_PAUSE = 60.0
_MANIFEST_ROUTES = frozenset({"end-3", "end-3-head"})
_FOUND = frozenset({200, 206, 304, 307})


@dataclass(frozen=True, slots=True)
class ImageParts:
    """The digests that belong to a manifest: those it lists, by platform, and its blobs."""

    manifests: dict[str, str] = field(default_factory=dict)
    blobs: frozenset[str] = frozenset()


class Facts(Protocol):
    """The store's word on an image that was pulled."""

    async def source(self, name: str, reference: str, digest: str, now: float) -> Row:
        """Return where an image came from: ``pushed``, or an upstream and when that was asked."""

    async def parts(self, name: str, digest: str) -> ImageParts | None:
        """Return what belongs to a manifest; None where it is not stored."""


@dataclass(slots=True)
class _Open:
    """A row that more may belong to."""

    row: Row
    reference: str
    digest: str
    clock: float
    parts: ImageParts | None
    blobs: frozenset[str]
    waiting: bool = True
    """Whether a tag or digest that is asked for again is still the same pull."""

    routes: set[str] = field(default_factory=set)
    """The routes of requests for what was asked for first: a pull has one of each."""


@dataclass(slots=True)
class _Missed:
    """A row of what was asked for and not served; times by a clock that nobody sets."""

    row: Row
    first: float
    told: float
    last: float


_Client = tuple[str, str | None, str, str]


class Joiner:
    """Makes rows of what was seen; ``take`` returns those that are new or have changed."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._boot = uuid.uuid4().hex[:12]
        self._made = 0
        self._open: OrderedDict[_Client, list[_Open]] = OrderedDict()
        self._count = 0
        self._missing: Latest[Sighting, _Missed] = Latest(_MOST_OPEN)
        self._held: dict[str, tuple[Row, float]] = {}
        self._changed: dict[str, Row] = {}

    @property
    def open(self) -> int:
        """Return the number of rows that something may still belong to."""
        return self._count

    @property
    def holds(self) -> bool:
        """Return whether there are rows that are told of later."""
        return bool(self._held)

    def take(self, now: float = math.inf) -> list[Row]:
        """Return the rows that are new or have changed since they were taken last.

        Rows that wait are taken when their time has come.
        """
        changed, self._changed = self._changed, {}
        for which in [which for which, (_row, due) in self._held.items() if due <= now]:
            changed[which] = self._held.pop(which)[0]
        return list(changed.values())

    def add_row(self, kind: str, time: float, **values: object) -> None:
        """Add a row that nothing else belongs to."""
        self._change(self.row(kind, time) | values)

    def add_numbers(self, kind: str, which: str, time: float, values: Row) -> None:
        """Add or change the row of numbers that grow as long as the server runs."""
        row = {"kind": kind, "id": f"{self._boot}-{which}", "time": stamp(time)}
        self._change(row | values)

    def row(self, kind: str, time: float) -> Row:
        """Return a new row."""
        self._made += 1
        return {"kind": kind, "id": f"{self._boot}-{self._made}", "time": stamp(time)}

    async def add(self, sighting: Sighting, seen: Seen) -> None:
        """Take what requests of one kind amounted to."""
        if sighting.route == "end-7":
            self._push(sighting, seen)
        elif sighting.status not in _FOUND:
            self._miss(sighting, seen)
        elif sighting.route in _MANIFEST_ROUTES:
            await self._manifest(sighting, seen)
        else:
            self._blob(sighting, seen)

    def _push(self, sighting: Sighting, seen: Seen) -> None:
        if sighting.status == 201:
            row = self._asked("push", sighting, seen)
            references = [*seen.tags] or [sighting.reference]
            row |= {"references": references, "digest": sighting.digest}
            self._change(row | {"media_type": clipped(seen.media_type)})

    def _miss(self, sighting: Sighting, seen: Seen) -> None:
        """Note what was asked for and not served; the same again soon is the same row."""
        found = self._missing.get(sighting)
        if found is None or not 0 <= seen.clock - found.last < _LATEST:
            row = self._asked("missing", sighting, seen)
            row |= {"reference": clipped(sighting.reference), "status": sighting.status}
            row |= {"blob": sighting.route == "end-2"}
            found = _Missed(row, seen.clock, seen.clock, seen.clock)
            self._change(row)
        else:
            self._miss_again(found, seen)
        self._missing[sighting] = found

    def _miss_again(self, found: _Missed, seen: Seen) -> None:
        """Count one more; the longer it goes on, the more seldom it is told of."""
        row = found.row
        row["requests"] += seen.requests
        row["last"] = stamp(seen.time)
        found.last = seen.clock
        due = found.told + min(_PAUSE, found.told - found.first)
        if due <= seen.clock:
            found.told = seen.clock
            self._held.pop(row["id"], None)
            self._change(row)
        else:
            self._held.setdefault(row["id"], (row, due))

    async def _manifest(self, sighting: Sighting, seen: Seen) -> None:
        client = _client(sighting)
        rows = self._of(client, seen.clock)
        same = _again(rows, sighting, seen.clock)
        above = None if same else _above(rows, sighting)
        found = same or above
        if found is None:
            found = await self._begin(client, sighting, seen)
        elif above is not None:
            await self._platform(above, sighting)
        self._count_in(found, sighting, seen)

    async def _begin(self, client: _Client, sighting: Sighting, seen: Seen) -> _Open:
        """Begin the row of an image."""
        name, digest = sighting.name, sighting.digest
        row = self._asked("pull", sighting, seen)
        row |= {"reference": sighting.reference, "digest": digest}
        row |= {"media_type": clipped(seen.media_type), "read": False, "manifests": []}
        row["source"] = await self._facts.source(name, sighting.reference, digest, seen.time)
        row["bytes"] = {"store": 0, "upstream": 0}
        row["blobs"] = 0
        row["requests"] = 0
        parts = await self._facts.parts(name, digest)
        blobs = parts.blobs if parts else frozenset()
        if seen.media_type not in INDEXES:
            row["manifests"] = [{"digest": digest}]
        made = _Open(row, sighting.reference, digest, seen.clock, parts, blobs)
        rows = self._open.setdefault(client, [])
        rows.append(made)
        self._count += 1
        if len(rows) > _MOST_OF_ONE:
            del rows[0]
            self._count -= 1
        while self._count > _MOST_OPEN:
            _old, ended = self._open.popitem(last=False)
            self._count -= len(ended)
        return made

    async def _platform(self, found: _Open, sighting: Sighting) -> None:
        """Note the manifest of a platform that followed its index."""
        found.waiting = False
        named = found.row["manifests"]
        known = any(one["digest"] == sighting.digest for one in named)
        if known or len(named) >= _MOST_MANIFESTS:
            return
        platform = found.parts.manifests.get(sighting.digest, "") if found.parts else ""
        named.append({"digest": sighting.digest} | ({"platform": platform} if platform else {}))
        parts = await self._facts.parts(sighting.name, sighting.digest)
        if parts is not None and len(found.blobs) < _MOST_BLOBS:
            found.blobs |= parts.blobs

    def _count_in(self, found: _Open, sighting: Sighting, seen: Seen) -> None:
        row = found.row
        row["requests"] += seen.requests
        row["bytes"]["store"] += seen.stored
        row["bytes"]["upstream"] += seen.arriving
        row["last"] = stamp(seen.time)
        row["read"] |= sighting.route == "end-3" and sighting.status == 200
        if sighting.reference == found.reference:
            found.routes.add(sighting.route)
        found.clock = seen.clock
        self._change(row)

    def _blob(self, sighting: Sighting, seen: Seen) -> None:
        client = _client(sighting)
        rows = self._of(client, seen.clock)
        holding = [one for one in reversed(rows) if sighting.digest in one.blobs]
        found = next(iter(holding or reversed(rows)), None)
        if found is None:
            row = self._asked("blob", sighting, seen)
            row["digest"] = sighting.digest
            self._change(row | {"bytes": {"store": seen.stored, "upstream": seen.arriving}})
            return
        found.waiting = False
        found.row["blobs"] += seen.requests
        self._count_in(found, sighting, seen)

    def _of(self, client: _Client, clock: float) -> list[_Open]:
        """Return a client's rows that something may still belong to."""
        rows = self._open.get(client)
        if rows is None:
            return []
        self._open.move_to_end(client)
        late = [one for one in rows if clock - one.clock > _LATEST]
        for one in late:
            rows.remove(one)
        self._count -= len(late)
        if not rows:
            del self._open[client]
        return rows

    def _asked(self, kind: str, sighting: Sighting, seen: Seen) -> Row:
        """Return a row with who asked for what."""
        row = self.row(kind, seen.time)
        row |= {
            "last": row["time"],
            "client": sighting.client,
            "user": None if sighting.user is None else clipped(sighting.user),
            "agent": clipped(sighting.agent),
            "name": clipped(sighting.name),
            "asked": clipped(seen.asked),
            "requests": seen.requests,
        }
        return row

    def _change(self, row: Row) -> None:
        self._changed[row["id"]] = row


def _client(sighting: Sighting) -> _Client:
    return sighting.client, sighting.user, sighting.agent, sighting.name


def _again(rows: Iterable[_Open], sighting: Sighting, clock: float) -> _Open | None:
    """Return the row whose image is asked for once more before anything followed."""
    for one in reversed([*rows]):
        if one.digest != sighting.digest:
            continue
        idle = clock - one.clock
        soon = _AT_ONCE if sighting.route in one.routes else _SAME
        if sighting.reference == one.reference and one.waiting and idle < soon:
            return one
        if sighting.reference == one.digest and sighting.reference != one.reference:
            return one if idle < _FOLLOWS else None
    return None


def _above(rows: Iterable[_Open], sighting: Sighting) -> _Open | None:
    """Return the row whose index lists what is asked for by digest.

    An index that is not stored, for want of room, is taken for one that lists what follows it.
    """
    if sighting.reference != sighting.digest:
        return None
    for one in reversed([*rows]):
        if one.parts is None:
            listed = one.row["media_type"] in INDEXES and one.digest != sighting.digest
        else:
            listed = sighting.digest in one.parts.manifests
        if listed:
            return one
    return None
