# SPDX-License-Identifier: Apache-2.0
"""The table of medians, spread and ratios: as text, and for the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.compare import PAIRS, Change, changes
from bench.figures import Figures
from bench.measures import MEASURES
from bench.peers import PEERS
from bench.plot import plot
from bench.targets import verdicts

REFERENCE = "distribution-3"


@dataclass(frozen=True)
class Line:
    """A line of a table: which figures it shows."""

    title: str
    measure: str
    key: str = "value"


def lines() -> Iterator[tuple[str, list[Line]]]:
    """Yield each table's title and its lines."""
    yield "Figures", [Line(f"{one.title}, {one.unit}", one.name) for one in MEASURES]
    yield (
        "The server's seconds of processor time",
        [
            Line(f"{one.title}, per {'thousand' if one.unit == '1/s' else 'GiB'}", one.name, "cpu")
            for one in MEASURES
            if one.name != "start"
        ],
    )
    yield (
        "Memory and pull-through",
        [
            Line("memory after start-up, MiB", "start", "idle_mib"),
            Line("memory at the peak of all measures, MiB", "", "peak"),
            Line(
                "cold, 1 client: bytes from upstream / bytes of the image",
                "cold-1",
                "upstream_ratio",
            ),
            Line("cold, 50 clients: the same", "cold-50", "upstream_ratio"),
            Line(
                "cold, 1 client: first byte of a layer later than upstream's by, ms",
                "cold-1",
                "first_byte_ms",
            ),
            Line("buildset: seconds of the 30 pulls", "buildset", "pulling_seconds"),
        ],
    )


def tables(figures: Figures) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield each table with its head; peers and lines that have no figures are left out."""
    peers = [peer for peer in PEERS if any(peer.name in row for row in figures.rows.values())]
    for title, rows in lines():
        cells = [[row.title, *(_cell(figures, row, peer.name) for peer in peers)] for row in rows]
        shown = [row for row in cells if any(row[1:])]
        if shown:
            yield title, [["", *(peer.title for peer in peers)], *shown]


def text(figures: Figures) -> str:
    """Return the tables in columns."""
    parts = []
    for title, rows in tables(figures):
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        body = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        parts.append("\n".join([f"\n{title}", *body]))
    for pair in PAIRS:
        compared = [_line(*one) for one in changes(figures, pair)]
        if compared:
            title = f"\n{pair.title}, spread of the rounds, cost in the middle round"
            parts.append("\n".join([title, *compared]))
    met = [
        f"{'met' if one.met else 'NOT met':<8}{one.title}: {one.found}" for one in verdicts(figures)
    ]
    note = f"median (least-most of the rounds) xRATIO to {REFERENCE}"
    return "\n".join([*parts, "\nTargets", *met, "", note])


def _line(title: str, one: Change) -> str:
    told = "slower" if one.worse else ""
    figures = "".join(f"{number(each):>10}" for each in (one.before, one.now, one.spread))
    cost = "" if one.cost is None else f"{one.cost:+10.1%}"
    return f"{title:<62}{figures}{cost:>10}  {told}".rstrip()


def write(figures: Figures, folder: Path) -> None:
    """Write figures.json, figures.inc (a part of a page) and figures.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures.json").write_text(figures.text())
    (folder / "figures.inc").write_text(_page(figures))
    (folder / "figures.svg").write_text(plot(figures, REFERENCE))


def _page(figures: Figures) -> str:
    about = figures.about
    said = (
        f"Measured on {about['date']}: {about['processors']} processors ({about['processor']}), "
        f"Linux {about['kernel']}, Python {about['python']}; {about['rounds']} rounds, "
        f"blobs and images of {about['size'] / (1 << 20):.0f} MiB.\n"
    )
    parts = [f".. Written by make bench; do not edit.\n\n{said}"]
    parts += [_list_table(title, rows) for title, rows in tables(figures)]
    met = [[one.title, one.found, "met" if one.met else "**not met**"] for one in verdicts(figures)]
    if met:
        parts.append(_list_table("Targets", [["at least", "found", ""], *met]))
    return "\n".join(parts)


def _list_table(title: str, rows: list[list[str]]) -> str:
    out = [f".. list-table:: {title}", "   :header-rows: 1", "   :stub-columns: 1", ""]
    for row in rows:
        out += [f"   {'* -' if at == 0 else '  -'} {cell}".rstrip() for at, cell in enumerate(row)]
    return "\n".join([*out, ""])


def _cell(figures: Figures, line: Line, peer: str) -> str:
    if line.key == "peak":
        peak = figures.peak(peer)
        return "" if peak is None else number(peak)
    series = figures.series(line.measure, peer, line.key)
    middle = figures.middle(line.measure, peer, line.key)
    if middle is None:
        return ""
    cell = number(middle)
    if len(series) > 1:
        cell += f" ({number(min(series))}-{number(max(series))})"
    base = figures.middle(line.measure, REFERENCE, line.key)
    return f"{cell} x{number(middle / base)}" if base and base > 0 and peer != REFERENCE else cell


def number(value: float) -> str:
    """Write a number in three digits."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
