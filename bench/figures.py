# SPDX-License-Identifier: Apache-2.0
"""What was measured, in a file that a run can go on from."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.processes import Usage

GIB = 1 << 30
THOUSAND = 1000


@dataclass(frozen=True)
class Figure:
    """One measurement; ``cpu`` is the server's, in seconds per GiB or per thousand requests."""

    value: float
    cpu: float | None = None
    peak_mib: float | None = None
    more: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, value: float, usage: Usage, amount: float, **more: float) -> Figure:
        """Make one of what was used for ``amount`` GiB or thousands."""
        return cls(value, usage.cpu / amount, usage.peak_mib, more)


@dataclass
class Figures:
    """All figures of a run: by measure, peer and round (from 0)."""

    path: Path
    about: dict[str, Any]
    rows: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, about: dict[str, Any], *, resume: bool) -> Figures:
        """Begin anew, or go on with what ``path`` holds."""
        known = json.loads(path.read_text()) if resume and path.exists() else {}
        return cls(path, {**about, **machine()}, known.get("rows", {}))

    def has(self, measure: str, peer: str, turn: int) -> bool:
        """Whether that figure is known already."""
        return str(turn) in self.rows.get(measure, {}).get(peer, {})

    def add(self, measure: str, peer: str, turn: int, figure: Figure) -> None:
        """Note a figure, on disk at once."""
        peers = self.rows.setdefault(measure, {})
        peers.setdefault(peer, {})[str(turn)] = asdict(figure)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(self.text())

    def text(self) -> str:
        """Return all as JSON."""
        return json.dumps({"about": self.about, "rows": self.rows}, indent=1) + "\n"

    def by_round(self, measure: str, peer: str, key: str) -> dict[str, float]:
        """Return a figure of each round: ``value``, ``cpu``, ``peak_mib`` or one of more."""
        found = {}
        for turn, row in self.rows.get(measure, {}).get(peer, {}).items():
            number = row.get(key, row["more"].get(key))
            if number is not None:
                found[turn] = float(number)
        return found

    def series(self, measure: str, peer: str, key: str) -> list[float]:
        """Return the figures of all rounds, without saying which is whose."""
        return [*self.by_round(measure, peer, key).values()]

    def middle(self, measure: str, peer: str, key: str) -> float | None:
        """Return the median of the rounds."""
        series = self.series(measure, peer, key)
        return median(series) if series else None

    def peak(self, peer: str) -> float | None:
        """Return the most memory that a peer had in any measure, in MiB."""
        peaks = [self.series(measure, peer, "peak_mib") for measure in self.rows]
        return max((number for series in peaks for number in series), default=None)


def machine() -> dict[str, Any]:
    """Say what the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
