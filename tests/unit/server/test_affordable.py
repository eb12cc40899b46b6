# SPDX-License-Identifier: Apache-2.0
"""What a process may open: fetches from upstreams and connections of clients share it."""

from __future__ import annotations

import resource

import pytest
from buildset_registry.server.connections import affordable, affordable_fetches


def allow(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (most, most))


@pytest.mark.parametrize(
    ("most", "wanted", "fetches"),
    [
        (1024, 128, 64),
        (1024, 32, 32),
        (65536, 128, 128),
        (32, 128, 4),
        (1024, 1, 1),
        (32, 3, 3),
        (1024, 0, 0),
        (resource.RLIM_INFINITY, 128, 128),
    ],
)
def test_fetches_take_a_part_of_the_descriptors(
    monkeypatch: pytest.MonkeyPatch, most: int, wanted: int, fetches: int
) -> None:
    """0 is no limit."""
    allow(monkeypatch, most)
    assert affordable_fetches(wanted) == fetches


def test_connections_leave_descriptors_to_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three for each of 64, of which a connection would have two."""
    allow(monkeypatch, 1024)
    without = affordable(2048, 1, tls=False)
    assert without - affordable(2048, 1, tls=False, fetches=128) == 64 * 3 // 2
