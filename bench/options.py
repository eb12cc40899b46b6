# SPDX-License-Identifier: Apache-2.0
"""What ``make bench ARGS="..."`` takes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.measures import MEASURES
from bench.peers import NAMES

_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the options; all have defaults that make a full run."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="each peer does each measure once a round")
    add("--measures", type=_one_of([one.name for one in MEASURES]), help="names, with commas")
    add("--peers", type=_one_of(NAMES), help="names, with commas")
    add("--before", metavar="REV", help="a git revision of this registry to compare it with")
    add("--size", type=_size, default=1 << 30, help="of the large blob and of an image: 64MiB")
    add("--seconds", type=float, default=3, help="for how long requests are counted")
    add("--tags", type=int, default=10_000, help="in the repository whose tags are listed")
    add("--repositories", type=int, default=1_000, help="in the catalog")
    add("--crowd", type=int, default=50, help="clients that pull through at once")
    add("--folder", type=Path, default=Path("build", "bench"), help="for data and figures")
    add("--resume", action="store_true", help="go on with the figures that the folder has")
    add("--report", action="store_true", help="measure nothing, print what the folder has")
    add("--docs", action="store_true", help="write the figures into the documentation, too")
    chosen = parser.parse_args(words)
    if chosen.docs and chosen.before:
        parser.error("the documentation compares with others, not with --before")
    if chosen.peers and "before" in chosen.peers and not (chosen.before or chosen.report):
        parser.error("say which revision the peer before is of: --before REV")
    if chosen.peers and chosen.before:
        chosen.peers.append("before")
    return chosen


def _one_of(names: Sequence[str]) -> Callable[[str], list[str]]:
    def chosen(text: str) -> list[str]:
        unknown = [name for name in text.split(",") if name not in names]
        if unknown:
            raise argparse.ArgumentTypeError(f"no {unknown[0]}; there are: {', '.join(names)}")
        return [name for name in names if name in text.split(",")]

    return chosen


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)(|KiB|MiB|GiB)", text)
    if found is None:
        raise argparse.ArgumentTypeError("give a size such as 64MiB or 1GiB")
    return int(found[1]) * _UNITS[found[2]]
