# SPDX-License-Identifier: Apache-2.0
"""Tables of a page, which can be sorted and searched where scripts run; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from buildset_registry.report.html import Markup, element, joined
from buildset_registry.report.text import amount

#: Columns that fit beside each other on a phone, one word each.
_FEW = 5


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell, its class, and the number by which it is sorted, if that is not its text."""

    content: object
    class_: str = ""
    value: int | None = None


def table(key: str, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """Return a table in a box that scrolls sideways, also by keyboard."""
    cells = [[*map(_as_cell, row)] for row in rows]
    first = cells[0] if cells else []
    numbers = [cell.class_ == "number" for cell in first]
    heads = [
        element("th", title, scope="col", class_="number" if number else None)
        for title, number in zip(columns, numbers, strict=False)
    ]
    body = [element("tr", *map(_cell, row)) for row in cells]
    made = element(
        "table",
        element("caption", f"{title}, {len(body):,} rows"),
        element("thead", element("tr", *heads)),
        element("tbody", *body),
        id=key,
        class_=" ".join(_classes(len(body), len(columns))) or None,
        data_title=title,
    )
    return scrolling(f"Table: {title}", made)


def scrolling(title: str, *content: object) -> Markup:
    """Return what may be wider than the page, in a region that the keyboard reaches."""
    return element("div", *content, class_="scroll", role="region", aria_label=title, tabindex=0)


def _classes(rows: int, columns: int) -> Iterable[str]:
    if rows > 1:
        yield "sortable"
    if columns > _FEW:
        yield "wide"


def _as_cell(content: object) -> Cell:
    return content if isinstance(content, Cell) else Cell(content)


def _cell(cell: Cell) -> Markup:
    return element("td", cell.content, class_=cell.class_ or None, data_value=cell.value)


def time_cell(time: str) -> Cell:
    """Return a time of a row to the second."""
    return Cell(plain_time(time), "time")


def plain_time(time: str) -> str:
    """Return a time of a row as people write it, to the second."""
    date, _separator, clock = time.partition("T")
    return f"{date} {clock[:8]}"


def bytes_cell(size: int) -> Cell:
    """Return a number of bytes."""
    return Cell(amount(size), "number", size)


def number_cell(number: int) -> Cell:
    """Return a number."""
    return Cell(f"{number:,}", "number", number)


def agent_cell(agent: str) -> Cell:
    """Return what a client calls itself, which may be long; its name and version come first."""
    return Cell(element("code", agent, class_="clip") if agent else "", "agent")


def digest_code(digest: str) -> Markup:
    """Return a digest, which is whole and shown short."""
    return element("code", digest, class_="clip")


def lines(items: Iterable[object]) -> Markup:
    """Return a list."""
    return element("ul", *(element("li", item) for item in items))


def section(key: str, title: str, *content: object) -> Markup:
    """Return a section with its heading."""
    heading = f"{key}-title"
    return element(
        "section",
        element("h2", title, id=heading),
        joined(*content),
        id=key,
        aria_labelledby=heading,
    )
