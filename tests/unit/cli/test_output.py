# SPDX-License-Identifier: Apache-2.0
"""A bar for people at a terminal."""

from __future__ import annotations

import io

from buildset_registry.cli.output import Bar, amount, line
from buildset_registry.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line() -> None:
    """With a bar where it is known how much there is."""
    assert line(Progress("blobs", 1234)) == "blobs 1,234"
    assert line(Progress("links", 5, 10)) == f"[{'#' * 15}{'.' * 15}] links 5 of 10"
    assert line(Progress("links", 12, 10)).startswith(f"[{'#' * 30}]")


def test_a_terminal_is_left_clean() -> None:
    """Steps in quick succession are drawn once."""
    terminal = Terminal()
    with Bar(terminal) as bar:
        for number in range(100):
            bar.show(Progress("blobs", number))
    assert terminal.getvalue().startswith("\r\x1b[Kblobs 0")
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_elsewhere_nothing_is_written() -> None:
    """A log has no use for a bar."""
    output = io.StringIO()
    with Bar(output) as bar:
        bar.show(Progress("blobs", 1))
    assert output.getvalue() == ""


def test_sizes_are_for_people() -> None:
    """In powers of ten, as disks are sold."""
    assert [amount(size) for size in (0, 999, 1000, 1234567, 5.6e9, 7e12)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "1.2 MB",
        "5.6 GB",
        "7,000.0 GB",
    ]
