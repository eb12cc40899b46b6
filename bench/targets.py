# SPDX-License-Identifier: Apache-2.0
"""What this registry is to reach, as ratios of figures of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.figures import Figures


@dataclass(frozen=True)
class Target:
    """``ours`` is at least ``factor`` times what another peer has, or at most where less is better;
    without another peer ``factor`` is the figure itself."""

    measure: str
    factor: float
    other: str | None = "distribution-3"
    key: str = "value"
    most: bool = False
    ours: str = "ours"


@dataclass(frozen=True)
class Verdict:
    """A target and what was found."""

    title: str
    found: str
    met: bool


_PUSHES, _PULLS, _PAGES = ("push-patch", "push-whole"), ("pull-1", "pull-4"), ("tags", "catalog")
_OURS_S3: Mapping[str, Any] = {"other": "distribution-3-s3", "ours": "ours-s3"}
_READS, _WRITES = ("manifest-get", "blob-head"), ("manifest-put", "small-blob")
_TOLD = {"ours-login": " with a login", "ours-s3": " on S3", "ours-swift": " on Swift"}
TARGETS = [
    *(Target(name, 1.5) for name in _PUSHES),
    *(Target(name, 10, "zuul-registry") for name in _PUSHES),
    Target("image", 1.3),
    Target("pull-1", 1.0, "nginx"),
    Target("pull-4", 0.95, "nginx"),
    *(Target(name, 1.0, "nginx", "cpu", most=True) for name in _PULLS),
    *(Target(name, 3) for name in _READS),
    *(Target(name, 3, ours="ours-login") for name in _READS),
    *(Target(name, 1000, "distribution-2.8-login", ours="ours-login") for name in _READS),
    *(Target(name, 3) for name in _WRITES),
    *(Target(name, 20) for name in _PAGES),
    *(Target(name, 1.3, **_OURS_S3) for name in (*_PUSHES, "image")),
    Target("last-put", 1 / 3, most=True, **_OURS_S3),
    Target("small-blob", 3, **_OURS_S3),
    Target("pull-1", 1.0, **_OURS_S3),
    Target("pull-1", 1.0, key="cpu", most=True, **_OURS_S3),
    Target("tags", 5, **_OURS_S3),
    Target("push-20", 150, None, "crowd_mib", most=True, ours="ours-s3"),
    *(Target(name, 5, "zuul-registry-swift", ours="ours-swift") for name in _PUSHES),
    Target("start", 60, None, "idle_mib", most=True),
    Target("", 120, None, "peak", most=True),
    Target("start", 500, None, most=True),
    Target("cold-50", 1.005, None, "upstream_ratio", most=True),
    Target("cold-1", 50, None, "first_byte_ms", most=True),
]


def verdicts(figures: Figures) -> Iterator[Verdict]:
    """Yield what can be said of each target by the figures at hand."""
    for target in TARGETS:
        ours = _value(figures, target, target.ours)
        base = 1.0 if target.other is None else _value(figures, target, target.other)
        if ours is None or not base:
            continue
        ratio = ours / base
        met = ratio <= target.factor if target.most else ratio >= target.factor
        yield Verdict(_title(target), f"{ratio:.3g}", met)


def _value(figures: Figures, target: Target, peer: str) -> float | None:
    if target.key == "peak":
        return figures.peak(peer)
    return figures.middle(target.measure, peer, target.key)


def _title(target: Target) -> str:
    key = "" if target.key == "value" else f" {target.key}"
    login = _TOLD.get(target.ours, "")
    limit = f"{'at most' if target.most else 'at least'} {target.factor:.3g}"
    other = f" x {target.other}" if target.other else ""
    return f"{target.measure}{key}{login}, {limit}{other}".strip()
