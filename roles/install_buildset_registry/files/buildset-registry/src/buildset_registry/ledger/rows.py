# SPDX-License-Identifier: Apache-2.0
"""Rows of the ledger: what a request showed, and how a line of a file is written and read; pure.

A line is an object with ``kind``, ``id`` and ``time``; what a client chose is cut to a bound, and
JSON has no character in it that ends a line or turns the direction of text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, NamedTuple

#: Characters of a text that a client chose: its agent may have any length.
LONGEST = 512
#: Bytes past which a line is none of ours.
LONGEST_LINE = 256 * 1024
KINDS = frozenset({"pull", "push", "missing", "blob", "upstream", "cache", "start", "lost"})

Row = dict[str, Any]
#: Made once: ``json.dumps`` makes one for each row.
_encode = json.JSONEncoder(separators=(",", ":")).encode
#: The fields of a ``Sighting``, as a request makes them: a plain tuple takes half the time.
Key = tuple[str, str | None, str, str, str, str, str, int]


class Sighting(NamedTuple):
    """A kind of request: requests that are equal in all of this are told of once a round."""

    client: str
    user: str | None
    agent: str
    route: str
    name: str
    reference: str
    """A tag or a digest, as it was asked for."""

    digest: str
    """The digest that was answered; empty where there was none."""

    status: int


@dataclass(slots=True)
class Seen:
    """Requests of one kind since the last round, summed up."""

    time: float
    """When the first of them was answered, in seconds since the epoch."""

    clock: float
    """The same by a clock that nobody sets."""

    media_type: str = ""
    asked: str = ""
    """The name of the repository as the client wrote it, with the registry that ``?ns=`` names."""

    tags: tuple[str, ...] = ()
    requests: int = 0
    stored: int = 0
    """Bytes that were sent from the store."""

    arriving: int = 0
    """Bytes that were sent while they came from upstream."""


def stamp(seconds: float) -> str:
    """Return a time as ISO 8601 has it, in UTC, with milliseconds."""
    try:
        whole, rest = divmod(int(seconds * 1000), 1000)
        return f"{_second(whole)}.{rest:03d}Z"
    except (ValueError, OverflowError, OSError):  # a clock may say anything
        return f"{_second(0)}.000Z"


@lru_cache(16)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def clipped(text: str) -> str:
    """Return a text that is not longer than a row has room for."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\N{HORIZONTAL ELLIPSIS}"


def to_line(row: Mapping[str, object]) -> bytes:
    """Return a row as a line, which is ASCII."""
    return _encode(row).encode() + b"\n"


def from_line(line: bytes) -> Row | None:
    """Return the row of a line; None where it is none: cut off, damaged, or of another program."""
    if len(line) > LONGEST_LINE:
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or row.get("kind") not in KINDS:
        return None
    if not isinstance(row.get("id"), str) or not isinstance(row.get("time"), str):
        return None
    return row
