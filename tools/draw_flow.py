# SPDX-License-Identifier: Apache-2.0
"""Draw ``docs/image-flow.svg`` from ``docs/image-flow.yml``.

Boxes stand in a grid of columns and rows, arrows go straight from one to another. The picture has
a ground of its own and follows the colour scheme, so that it can be read on a dark page and on a
light one, as a file and inside an HTML page. A test runs ``--check``.

usage: python tools/draw_flow.py [--check]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).resolve().parent.parent / "docs"
SOURCE = DOCS / "image-flow.yml"
PICTURE = DOCS / "image-flow.svg"

WIDTH, HEIGHT = 960, 480
#: Left edge and width of each column, upper edge of each row.
COLUMNS = {1: (28, 220), 2: (376, 240), 3: (728, 204)}
ROWS = {1: 66, 2: 206, 3: 346}
ROW_HEIGHT = 92
PANEL_MARGIN, PANEL_TITLE = 24, 34
TITLE_LINE, LINE = 30, 22
HEAD, LID = 10, 11
LIGHT = {
    "ground": "#f6f8fa", "panel": "#e7ecf2", "card": "#ffffff", "ink": "#1f2328",
    "faint": "#4d5763", "push": "#0860ca", "pull": "#12702f", "upstream": "#a13f00",
    "store": "#57606a",
}  # fmt: skip
DARK = {
    "ground": "#161b22", "panel": "#222a35", "card": "#0d1117", "ink": "#f0f6fc",
    "faint": "#b3bcc7", "push": "#58a6ff", "pull": "#46c35a", "upstream": "#f0883e",
    "store": "#9198a1",
}  # fmt: skip


@dataclass(frozen=True)
class Rectangle:
    """Where something is drawn."""

    left: float
    top: float
    width: float
    height: float

    @property
    def middle(self) -> tuple[float, float]:
        """Return the point in its middle."""
        return self.left + self.width / 2, self.top + self.height / 2


def place(item: dict[str, Any]) -> Rectangle:
    """Return where a box of the description stands."""
    left, width = COLUMNS[item["column"]]
    first, last = item["rows"]
    return Rectangle(left, ROWS[first], width, ROWS[last] - ROWS[first] + ROW_HEIGHT)


def colours(scheme: dict[str, str]) -> str:
    """Write a scheme as custom properties."""
    return "; ".join(f"--{name}: {value}" for name, value in scheme.items())


def style() -> Iterator[str]:
    """Yield the style sheet; the rules for ``body`` are those of the documentation's own switch."""
    yield f".image-flow {{ {colours(LIGHT)} }}"
    yield f"@media (prefers-color-scheme: dark) {{ .image-flow {{ {colours(DARK)} }} }}"
    yield f'body[data-theme="light"] .image-flow {{ {colours(LIGHT)} }}'
    yield f'body[data-theme="dark"] .image-flow {{ {colours(DARK)} }}'
    yield ".image-flow { max-width: 100%; height: auto }"
    yield ".image-flow text { font: 17px system-ui, sans-serif; fill: var(--faint) }"
    yield ".image-flow .title { font-size: 20px; font-weight: 600; fill: var(--ink) }"
    yield ".image-flow .code { font: 15px ui-monospace, monospace; fill: var(--ink) }"
    yield ".image-flow .number { font-size: 14px; font-weight: 700; fill: var(--card) }"
    for kind in ("push", "pull", "upstream", "store"):
        yield f".image-flow .{kind} {{ stroke: var(--{kind}); fill: var(--{kind}) }}"
    yield ".image-flow .box { fill: var(--card); stroke-width: 2 }"
    yield ".image-flow .line { fill: none; stroke-width: 2 }"
    yield ".image-flow .badge, .image-flow .head { stroke: none }"


def text(x: float, y: float, words: str, name: str = "", anchor: str = "middle") -> str:
    """Write a line of text; one in backquotes is code."""
    if words.startswith("`"):
        words, name = words.strip("`"), "code"
    kind = f' class="{name}"' if name else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{kind}>{escape(words)}</text>'


def draw_panel(panel: dict[str, Any]) -> Iterator[str]:
    """Draw the registry, in which boxes stand."""
    inside = place(panel)
    left, top = inside.left - PANEL_MARGIN, inside.top - PANEL_TITLE - 12
    width = inside.width + 2 * PANEL_MARGIN
    height = inside.height + PANEL_TITLE + PANEL_MARGIN + 8
    yield (
        f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="14"'
        ' fill="var(--panel)"/>'
    )
    yield text(inside.middle[0], top + 30, panel["title"], "title")


def draw_box(box: dict[str, Any]) -> Iterator[str]:
    """Draw a box with its title and its lines in the middle; a store has the form of a drum."""
    area = place(box)
    round_lid = box["kind"] == "store"
    yield drum(area) if round_lid else card(area, box["kind"])
    x, y = area.middle
    y += LID if round_lid else 0
    top = y - (TITLE_LINE + LINE * (len(box["lines"]) - 1)) / 2 + 6
    yield text(x, top, box["title"], "title")
    for number, line in enumerate(box["lines"]):
        if line:
            yield text(x, top + TITLE_LINE - 3 + LINE * number, line)


def card(area: Rectangle, kind: str) -> str:
    """Draw a rectangle with round corners."""
    return (
        f'<rect class="{kind} box" x="{area.left:g}" y="{area.top:g}"'
        f' width="{area.width:g}" height="{area.height:g}" rx="10"/>'
    )


def drum(area: Rectangle) -> str:
    """Draw a cylinder, with which a store of data is usually drawn."""
    top, bottom = area.top + LID, area.top + area.height - LID
    arc = f"a{area.width / 2:g} {LID} 0 0"
    return (
        f'<path class="store box" d="M{area.left:g} {top:g} {arc} 1 {area.width:g} 0'
        f' V{bottom:g} {arc} 1 {-area.width:g} 0 Z"/>'
        f'<path class="store line" d="M{area.left:g} {top:g} {arc} 0 {area.width:g} 0"/>'
    )


def draw_arrow(arrow: dict[str, Any], boxes: dict[str, Any]) -> Iterator[str]:
    """Draw an arrow with its number in a circle and its label beside it."""
    start, end = place(boxes[arrow["from"]]), place(boxes[arrow["to"]])
    if start.left + start.width < end.left:
        y = start.middle[1]
        yield from draw_line(arrow, (start.left + start.width + 4, y), (end.left - 4, y))
    else:
        x = start.middle[0]
        yield from draw_line(arrow, (x, start.top + start.height + 3), (x, end.top - 3))


def draw_line(
    arrow: dict[str, Any], start: tuple[float, float], end: tuple[float, float]
) -> Iterator[str]:
    """Draw a straight arrow to the right or downwards."""
    (x, y), (to_x, to_y), kind = start, end, arrow["kind"]
    level = y == to_y
    stop = (to_x - HEAD, y) if level else (x, to_y - HEAD)
    yield f'<path class="{kind} line" d="M{x:g} {y:g} L{stop[0]:g} {stop[1]:g}"/>'
    wing = f"l{-HEAD} {-6} v12 Z" if level else f"l-6 {-HEAD} h12 Z"
    yield f'<path class="{kind} head" d="M{to_x:g} {to_y:g} {wing}"/>'
    middle = ((x + stop[0]) / 2, (y + stop[1]) / 2)
    yield f'<circle class="{kind} badge" cx="{middle[0]:g}" cy="{middle[1]:g}" r="11"/>'
    yield text(middle[0], middle[1] + 5, str(arrow["number"]), "number")
    if level:
        yield text(middle[0], middle[1] - 20, arrow["label"])
    else:
        yield text(middle[0] + 18, middle[1] + 6, arrow["label"], anchor="start")


def draw(flow: dict[str, Any]) -> str:
    """Return the picture as a file."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="image-flow" role="img"'
        f' viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        ' aria-labelledby="image-flow-title image-flow-text">',
        # REUSE-IgnoreStart
        "<!-- SPDX-License-Identifier: Apache-2.0 -->",
        # REUSE-IgnoreEnd
        "<!-- Drawn by tools/draw_flow.py from docs/image-flow.yml. -->",
        f'<title id="image-flow-title">{escape(flow["title"])}</title>',
        f'<desc id="image-flow-text">{escape(flow["description"])}</desc>',
        "<style>",
        *style(),
        "</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="16" fill="var(--ground)"/>',
        *draw_panel(flow["panel"]),
    ]
    for box in flow["boxes"].values():
        parts += draw_box(box)
    for arrow in flow["arrows"]:
        parts += draw_arrow(arrow, flow["boxes"])
    return "\n".join([*parts, "</svg>", ""])


def main(words: list[str]) -> int:
    """Write the picture, or tell whether it is another one than would be drawn."""
    drawn = draw(yaml.safe_load(SOURCE.read_text()))
    if words != ["--check"]:
        PICTURE.write_text(drawn)
    elif PICTURE.read_text() != drawn:
        print("docs/image-flow.svg: run python tools/draw_flow.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
