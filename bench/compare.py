# SPDX-License-Identifier: Apache-2.0
"""This registry and the revision ``before`` beside each other: which measure became slower."""

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

    @property
    def worse(self) -> bool:
        """Whether it became worse by more than its spread."""
        loss = self.before - self.now if self.more_is_better else self.now - self.before
        return loss > self.spread


def change(figures: Figures, measure: str, key: str) -> Change | None:
    """Return how a figure changed; None where one of the two has none."""
    old, new = (figures.series(measure, peer, key) for peer in ("before", "ours"))
    if not old or not new:
        return None
    spread = max(_spread(series) for series in (old, new))
    return Change(median(old), median(new), spread, key == "value" and _more_is_better(measure))


def changes(figures: Figures) -> Iterator[tuple[str, Change]]:
    """Yield what is known of every measure: its figure, and the processor time it took."""
    for one in MEASURES:
        for key, title in (("value", one.title), ("cpu", f"{one.title}: processor time")):
            found = change(figures, one.name, key)
            if found is not None:
                yield title, found


def _spread(series: list[float]) -> float:
    return max(series) - min(series) if len(series) > 1 else inf


def _more_is_better(measure: str) -> bool:
    return next(one.more_is_better for one in MEASURES if one.name == measure)
