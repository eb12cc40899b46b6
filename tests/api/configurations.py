# SPDX-License-Identifier: Apache-2.0
"""The configurations that the tests of the API run over, a row each.

A test that takes ``harness`` or ``registry`` runs in every row. One that is true of some rows only
names what these have in common, and why: ``@only(on_disk, why="it damages the file")``. A new kind
of store is a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import pytest


@dataclass(frozen=True)
class Configuration:
    """How a registry is configured, and so how a test reaches it."""

    name: str
    single: bool = False
    """One port for pulls and pushes, instead of one for each."""

    on_disk: bool = True
    """What is stored are files, which a test may look into and which outlive the server."""

    settings: Mapping[str, object] = field(default_factory=dict)
    """What else the configuration file says."""

    bucket: bool = False
    """What is stored is in a new bucket of MinIO."""


TABLE = (
    Configuration("two-endpoints"),
    Configuration("single-port", single=True),
    Configuration("memory", on_disk=False, settings={"storage": "memory"}),
    Configuration("plain-http", settings={"tls": None}),
    Configuration("bucket", on_disk=False, bucket=True),
)

Which = Callable[[Configuration], bool]


def two_endpoints(row: Configuration) -> bool:
    """Tell pulls and pushes apart by the port."""
    return not row.single


def single_port(row: Configuration) -> bool:
    """Pull and push on one port."""
    return row.single


def on_disk(row: Configuration) -> bool:
    """Keep what is stored in files."""
    return row.on_disk


def in_bucket(row: Configuration) -> bool:
    """Keep what is stored in a bucket."""
    return row.bucket


def alone(row: Configuration) -> bool:
    """Have what is stored to themselves."""
    return not row.bucket


def once(row: Configuration) -> bool:
    """Run in one row: for what has a configuration of its own, or takes long and tells no more."""
    return row == TABLE[0]


def only(*which: Which, why: str) -> pytest.MarkDecorator:
    """Run a test in the rows that all of ``which`` are true of; ``why`` is for its readers."""
    return pytest.mark.only(*which, why=why)


def rows(marks: Iterable[pytest.Mark]) -> list[Configuration]:
    """Return the rows that a test with these marks runs in."""
    asked: list[Which] = [which for mark in marks for which in mark.args]
    return [row for row in TABLE if all(which(row) for which in asked)]
