# SPDX-License-Identifier: Apache-2.0
"""The cells of the table beside the rows of the registry's ledger: one row for each, and no other.

A client of a node is told from the others of that node by nothing that all clients send, so they
are counted: as many rows of one address, name, tag and digest as there are cells.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: The addresses of the hosts that have clients; the registry's own asks by loopback.
ADDRESSES = {"node": "198.51.100.12", "current": "198.51.100.14", "registry": "127.0.0.1"}
_SHOWN = 19


@dataclass(frozen=True)
class Cell:
    """An image that a client got by a name and a tag."""

    host: str
    client: str
    name: str
    tag: str
    digest: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Return what its row has, too."""
        return ADDRESSES[self.host], self.name, self.tag, self.digest


def compare(cells: Iterable[Cell], report: Mapping[str, Any]) -> list[str]:
    """Return a line for each cell without a row, and for each row without a cell."""
    known = [cell for cell in cells if cell.digest]
    digests = {cell.digest for cell in known}
    expected = Counter(cell.key for cell in known)
    rows = [row for row in report["pulls"] if row["digest"] in digests]
    agents: dict[tuple[str, str, str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        key = row["client"], row["image"], row["reference"], row["digest"]
        agents[key][row["agent"]] += 1
    return [
        f"{key[0]} {key[1]}:{key[2]} {key[3][:_SHOWN]}: {expected[key]} cells, "
        f"{agents[key].total()} rows{_by(agents[key])}"
        for key in sorted(expected.keys() | agents.keys())
        if expected[key] != agents[key].total()
    ]


def _by(agents: Counter[str]) -> str:
    return "".join(f"; {number} by {agent}" for agent, number in sorted(agents.items()))
