# SPDX-License-Identifier: Apache-2.0
"""Time as retention counts it: that in which the registry is known to have run; pure.

A clock that is wrong makes images look old that are not: a year off, and everything goes. Nobody
can tell a clock that jumped from a registry that was stopped for a year. So neither counts: a time
for which nothing was written down is a *gap*, in which nobody could have pulled, and images do not
grow older in it. What a gap covers happened at its end.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

#: Seconds without a sign of the registry past which they are a gap.
ABSENT = 86400.0
#: Seconds by which clocks of replicas may differ.
_APART = 3600.0
#: Gaps that are kept; past it, the two oldest become one.
_MOST = 50

_Gap = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The times that are known; all in seconds since the epoch, by the clock of then."""

    recorded: float
    """Since when uses have been written down."""

    last: float
    """When the registry was last seen to run."""

    gaps: tuple[_Gap, ...] = ()
    behind: float | None = None
    """Where the clock went back to, until it goes forward again."""

    jumped: float | None = None
    """When the clock was last found to have jumped."""

    def age(self, now: float, stamp: float) -> float:
        """Return for how many seconds the registry has run since a time; 0 for the future."""
        age = now - stamp
        for begin, end in self.gaps:
            age -= max(0.0, min(end, now) - max(begin, stamp))
        return max(0.0, age)

    def observe(self, now: float) -> tuple[Timeline, str]:
        """Return it with one more sign of the registry, and what is to be said about the clock."""
        if now < self.last - _APART:
            gaps = tuple((begin, min(end, now)) for begin, end in self.gaps if begin < now)
            behind = now if self.behind is None else min(now, self.behind)
            went_back = replace(self, last=now, gaps=gaps, behind=behind, jumped=now)
            return went_back, (
                f"the clock went back from {day(self.last)} to {day(now)}; what was pushed or "
                "pulled by the later one counts as new until then"
            )
        if now > self.last + ABSENT:
            begin = self.last if self.behind is None else min(self.behind, self.last) - _APART
            gaps = _merged([*self.gaps, (begin, now)])
            return replace(self, last=now, gaps=gaps, behind=None, jumped=now), (
                f"the registry was last seen on {day(self.last)}, and now it is {day(now)}: it "
                "did not run, or a clock is wrong; the time between does not count"
            )
        return replace(self, last=max(now, self.last)), ""

    def to_json(self) -> bytes:
        """Return it as it is kept."""
        return json.dumps(
            {
                "recorded": self.recorded,
                "last": self.last,
                "gaps": self.gaps,
                "behind": self.behind,
                "jumped": self.jumped,
            }
        ).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Timeline | None:
        """Return what ``to_json`` was made of; None for anything else."""
        try:
            tree = json.loads(content)
            gaps = tuple((_time(begin), _time(end)) for begin, end in tree["gaps"])
            behind, jumped = (
                None if tree[name] is None else _time(tree[name]) for name in ("behind", "jumped")
            )
            return cls(_time(tree["recorded"]), _time(tree["last"]), gaps, behind, jumped)
        except (ValueError, TypeError, KeyError):
            return None


def _time(value: object) -> float:
    found = float(str(value))
    if not math.isfinite(found):
        raise ValueError(value)
    return found


def _merged(gaps: Sequence[_Gap]) -> tuple[_Gap, ...]:
    """Return gaps in their order, those that touch as one."""
    merged: list[_Gap] = []
    for begin, end in sorted(gaps):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    while len(merged) > _MOST:
        merged[:2] = [(merged[0][0], merged[1][1])]
    return tuple(merged)


def day(stamp: float) -> str:
    """Return the day of a time, in UTC.

    >>> day(86400.0)
    '1970-01-02'
    """
    return time.strftime("%Y-%m-%d", time.gmtime(stamp))


def minute(stamp: float) -> str:
    """Return the minute of a time, in UTC.

    >>> minute(86400.0)
    '1970-01-02 00:00 UTC'
    """
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(stamp))
