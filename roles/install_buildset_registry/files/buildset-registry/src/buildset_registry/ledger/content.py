# SPDX-License-Identifier: Apache-2.0
"""The content of a ledger, as it is read: rows as they were told last, and no more than have room.

A ledger may hold some hundred thousand lines. Of each kind of row the newest are kept, as lines;
how many older ones there are is counted, so that a report can say what it lacks.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from buildset_registry.ledger.rows import Row, from_line

#: Rows of a kind that are kept, and those of kinds that are not named here.
MOST_ROWS: Mapping[str, int] = {"pull": 30_000, "push": 10_000, "missing": 5_000}
_MOST_OTHERS = 2_000


@dataclass(slots=True)
class LedgerContent:
    """The rows of a ledger: each once, as it was told last, in the order of the first."""

    rows: list[Row] = field(default_factory=list)
    broken: int = 0
    """Lines that are no rows."""

    problems: list[str] = field(default_factory=list)
    """Files that cannot be read, and why."""

    older: dict[str, int] = field(default_factory=dict)
    """Rows that are not here for want of room, by kind: those here are newer."""

    parallel: bool = False
    """Whether several servers wrote at once: then rows are in the order of their times."""


class RowReader:
    """Takes lines in the order in which they were written."""

    def __init__(self, most: Mapping[str, int] | None = None, others: int = _MOST_OTHERS) -> None:
        self._most = MOST_ROWS if most is None else most
        self._others = others
        self._lines: dict[str, OrderedDict[str, tuple[int, bytes]]] = {}
        self._read = 0
        self._broken = 0
        self._older: Counter[str] = Counter()

    def add(self, line: bytes) -> None:
        """Take a line; one that is no row is counted."""
        row = from_line(line)
        if row is None:
            self._broken += 1
            return
        kind, which = row["kind"], row["id"]
        lines = self._lines.setdefault(kind, OrderedDict())
        self._read += 1
        place, _before = lines.get(which, (self._read, b""))
        lines[which] = place, line
        if len(lines) > self._most.get(kind, self._others):
            lines.popitem(last=False)
            self._older[kind] += 1

    def content(self, problems: list[str]) -> LedgerContent:
        """Return what was read; the reader is empty then."""
        kept = sorted(one for lines in self._lines.values() for one in lines.values())
        self._lines.clear()
        # Names, agents and the like stand in most rows: each is one text in memory.
        read = partial(json.loads, object_pairs_hook=partial(_shared, {}))
        rows = [read(line) for _place, line in kept]
        return LedgerContent(rows, self._broken, problems, dict(self._older))


def _shared(known: dict[str, str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    same = known.setdefault
    return {
        same(key, key): same(value, value) if isinstance(value, str) else value
        for key, value in pairs
    }
