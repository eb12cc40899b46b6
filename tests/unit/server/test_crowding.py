# SPDX-License-Identifier: Apache-2.0
"""Which connections end where an endpoint is full."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from buildset_registry.http.context import Crowd
from buildset_registry.server import connections
from buildset_registry.server.connections import ConnectionBudget

PORT = 5000
MOST = 8


class Glass:
    """What the kernel tells of connections; addresses of IPv6 cannot be had by a test."""

    def __init__(self, held: list[Any]) -> None:
        self._held = held
        self.ended: list[str] = []

    def connections(self, _ports: set[int]) -> Iterator[Any]:
        yield from self._held

    def end(self, one: Any) -> None:
        self.ended.append(one.client)

    def put_down(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""


def ended(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> list[str]:
    """Return the clients whose connections end; the first one has moved last."""
    held = [
        connections._Held(address, PORT, (address, number), number, idle=number)
        for number, address in enumerate(addresses)
    ]
    glass = Glass(held)
    monkeypatch.setattr(connections, "_Glass", lambda: glass)
    budget = ConnectionBudget(Crowd(), 0, MOST)
    budget.watch(PORT)
    budget._look()
    return glass.ended


def test_a_host_of_ipv6_holds_by_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one each, it had the second connections of all others end in place of its own."""
    host = [f"2001:db8::{number:x}" for number in range(MOST - 2)]
    others = ["::ffff:10.0.0.1", "10.0.0.1", "2001:db8:0:1::1", "2001:db8:0:1::1"]
    found = ended(monkeypatch, [*host, *others])
    assert found
    assert set(found) <= set(host)
