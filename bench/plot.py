# SPDX-License-Identifier: Apache-2.0
"""A picture of the ratios: a line for each measure, a dot for each peer, on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from bench.figures import Figures
from bench.measures import MEASURES, Measure
from bench.peers import PEERS, Peer

_COLOURS = [
    "#d62728",
    "#9467bd",
    "#ff7f0e",
    "#ff9896",
    "#e377c2",
    "#1f77b4",
    "#aec7e8",
    "#17202a",
    "#8c6d31",
    "#2ca02c",
]
_LEFT, _WIDTH, _ROW, _TOP = 340, 560, 26, 70
_LEAST, _MOST = 0.01, 1000


def plot(figures: Figures, reference: str) -> str:
    """Return an SVG; right of the middle line is better than ``reference``."""
    measures = [one for one in MEASURES if figures.middle(one.name, reference, "value")]
    height = _TOP + _ROW * len(measures) + 40
    body = [*_scale(height, reference), *_legend()]
    for at, measure in enumerate(measures):
        y = _TOP + _ROW * at + _ROW / 2
        body.append(
            f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(measure.title)}</text>'
        )
        body += _dots(figures, measure, reference, y)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 20} {height}" '
    style = 'font-family="sans-serif" font-size="12">'
    back = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([head + style, back, *body, "</svg>\n"])


def _dots(figures: Figures, measure: Measure, reference: str, y: float) -> Iterator[str]:
    base = figures.middle(measure.name, reference, "value")
    for peer, colour in zip(PEERS, _COLOURS, strict=True):
        value = figures.middle(measure.name, peer.name, "value")
        if value and base:
            ratio = value / base if measure.more_is_better else base / value
            yield _dot(peer, colour, ratio, y)


def _dot(peer: Peer, colour: str, ratio: float, y: float) -> str:
    radius = 6 if peer.name == "ours" else 4
    title = f"<title>{escape(peer.title)}: {ratio:.3g}</title>"
    return f'<circle cx="{_x(ratio):.1f}" cy="{y}" r="{radius}" fill="{colour}">{title}</circle>'


def _x(ratio: float) -> float:
    least, most = math.log10(_LEAST), math.log10(_MOST)
    part = (math.log10(min(max(ratio, _LEAST), _MOST)) - least) / (most - least)
    return _LEFT + part * _WIDTH


def _scale(height: int, reference: str) -> Iterator[str]:
    for power in range(-2, 4):
        x, colour = _x(10.0**power), "#999" if power == 0 else "#ddd"
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{height - 30}" stroke="{colour}"/>'
        label = f"{10.0**power:g}" if power else f"1 = {reference}"
        yield f'<text x="{x:.1f}" y="{height - 14}" text-anchor="middle">{label}</text>'


def _legend() -> Iterator[str]:
    for at, (peer, colour) in enumerate(zip(PEERS, _COLOURS, strict=True)):
        x, y = 20 + at % 4 * 220, 22 + at // 4 * 22
        yield f'<circle cx="{x}" cy="{y}" r="5" fill="{colour}"/>'
        yield f'<text x="{x + 10}" y="{y + 4}">{escape(peer.title)}</text>'
