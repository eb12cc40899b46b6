# SPDX-License-Identifier: Apache-2.0
"""A picture of flows: from who pushed, and from upstreams, to the clients that pulled; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from buildset_registry.report.html import Markup, element, joined
from buildset_registry.report.summary import tool
from buildset_registry.report.values import PulledImage

#: Sources and clients that are drawn; those of fewest pulls are drawn as one.
_DRAWN = 12
_OTHERS = "others"
_WIDTH, _LEFT, _RIGHT = 720, 250, 470
_ROW = 34
_LONGEST = 30
_THICKEST = 18.0


def flows(pulls: Iterable[PulledImage], names: Mapping[str, str]) -> Markup:
    """Return the picture as SVG, which the page holds itself; ``names`` are those of addresses."""
    counts = Counter((_source(pull, names), _client(pull, names)) for pull in pulls)
    sources = _merged(counts, 0)
    clients = _merged(counts, 1)
    merged: Counter[tuple[str, str]] = Counter()
    for (source, client), number in counts.items():
        merged[sources[source], clients[client]] += number
    left = _places(source for source, _client in merged)
    right = _places(client for _source, client in merged)
    height = _ROW * max(len(left), len(right), 1) + 12
    most = max(merged.values(), default=1)
    lines = [
        _line(left[source], right[client], _THICKEST * number / most, source, client, number)
        for (source, client), number in sorted(merged.items(), key=lambda item: -item[1])
    ]
    labels = [_name(text, y, "end", _LEFT - 10) for text, y in left.items()]
    labels += [_name(text, y, "start", _RIGHT + 10) for text, y in right.items()]
    title = f"{sum(counts.values())} pulls from {len(left)} sources to {len(right)} clients"
    return element(
        "svg",
        element("title", title),
        *lines,
        *labels,
        viewBox=f"0 0 {_WIDTH} {height}",
        width=_WIDTH,
        height=height,
        role="img",
        aria_label=f"{title}; the table of pulls has the same in words",
    )


def _source(pull: PulledImage, names: Mapping[str, str]) -> str:
    """Return where an image came from, in the words that tell sources apart: they come first."""
    if pull.origin == "pushed":
        client = pull.source.rpartition(" from ")[2]
        return "pushed" if client == pull.source else f"from {names.get(client, client)}"
    if pull.origin == "overlay":
        return pull.source.rpartition(" of ")[2]
    return pull.registry or pull.source


def _client(pull: PulledImage, names: Mapping[str, str]) -> str:
    return f"{names.get(pull.client, pull.client)} {tool(pull.agent)}"


def _merged(counts: Mapping[tuple[str, str], int], side: int) -> dict[str, str]:
    """Return the name by which each end is drawn."""
    totals: Counter[str] = Counter()
    for ends, number in counts.items():
        totals[ends[side]] += number
    kept = {name for name, _number in totals.most_common(_DRAWN)}
    return {name: name if name in kept else _OTHERS for name in totals}


def _places(names: Iterable[str]) -> dict[str, int]:
    return {name: _ROW * row + _ROW // 2 + 6 for row, name in enumerate(sorted(set(names)))}


def _name(text: str, y: int, anchor: str, x: int) -> Markup:
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
    return element("text", shown, x=x, y=y + 5, text_anchor=anchor)


def _line(top: int, end: int, width: float, source: str, client: str, number: int) -> Markup:
    middle = (_LEFT + _RIGHT) // 2
    curve = f"M{_LEFT} {top} C{middle} {top} {middle} {end} {_RIGHT} {end}"
    told = element("title", f"{source} to {client}: {number}")
    drawn = element("path", d=curve, stroke_width=f"{max(width, 1.5):.1f}", fill="none")
    return element("g", joined(told, drawn))
