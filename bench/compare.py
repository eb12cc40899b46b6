# SPDX-License-Identifier: Apache-2.0
"""Two peers beside each other that are this registry: which measure became slower, and by how much.

One is the revision ``before`` and the checkout, one the registry without a ledger and with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from statistics import median

from bench.figures import Figures
from bench.measures import MEASURES


@dataclass(frozen=True)
class Change:
    """A figure before and now: the medians, and the wider of the two spreads of the rounds.

    One round has no spread: then nothing is worse.
    """

    before: float
    now: float
    spread: float
    more_is_better: bool
    pairs: tuple[tuple[float, float], ...] = ()
    """Both figures of each round: they were measured one right after the other."""

    @property
    def cost(self) -> float | None:
        """What the second one takes more than the first one: the median of the rounds, as a part.

        The machine may be slower in one round than in another; within a round it is the same.
        """
        parts = [old / new if self.more_is_better else new / old for old, new in self.pairs]
        return median(parts) - 1 if parts else None

    @property
    def worse(self) -> bool:
        """Whether it became worse by more than its spread."""
        loss = self.before - self.now if self.more_is_better else self.now - self.before
        return loss > self.spread


@dataclass(frozen=True)
class Pair:
    """Two peers that are compared; figures of the first one come first."""

    title: str
    old: str
    new: str


PAIRS = [
    Pair("Before, now", "before", "ours"),
    Pair("Without, with a ledger", "ours", "ours-ledger"),
]


def change(figures: Figures, pair: Pair, measure: str, key: str) -> Change | None:
    """Return how a figure differs; None where one of the two has none."""
    old, new = (figures.by_round(measure, peer, key) for peer in (pair.old, pair.new))
    if not old or not new:
        return None
    spread = max(_spread([*series.values()]) for series in (old, new))
    pairs = [(old[turn], new[turn]) for turn in old if turn in new]
    return Change(
        median(old.values()),
        median(new.values()),
        spread,
        key == "value" and _more_is_better(measure),
        tuple((one, other) for one, other in pairs if one > 0 and other > 0),
    )


def changes(figures: Figures, pair: Pair) -> Iterator[tuple[str, Change]]:
    """Yield what is known of every measure: its figure, and the processor time it took."""
    for one in MEASURES:
        for key, title in (("value", one.title), ("cpu", f"{one.title}: processor time")):
            found = change(figures, pair, one.name, key)
            if found is not None:
                yield title, found


def _spread(series: list[float]) -> float:
    return max(series) - min(series) if len(series) > 1 else inf


def _more_is_better(measure: str) -> bool:
    return next(one.more_is_better for one in MEASURES if one.name == measure)
