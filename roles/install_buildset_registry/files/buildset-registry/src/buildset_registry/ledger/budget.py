# SPDX-License-Identifier: Apache-2.0
"""The room that rows may take in an hour, so that no flood of requests pushes out what others did.

A ledger has a size, and its oldest part goes when it is full. Anybody who may ask can make rows:
of names that are not there, or of one image by ever new names of an agent. So one client has half
of an hour's share, and what was not served an eighth, whoever asked. A client of IPv6 is a network
of 64 bits: that is what a host has for itself. What was pushed has no bound of its own: that takes
credentials.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from buildset_registry.auth.access import client_network
from buildset_registry.ledger.rows import Row

#: Parts of the size that the rows of an hour share: files of a folder are as many.
SHARES = 8
_OF_ONE = 2
_OF_UNSERVED = 8
_UNSERVED = frozenset({"missing", "blob"})
_HOUR = 3600.0
#: Clients that are told apart; those that come later share what one of them has.
_MOST = 4096
_OTHERS = "further clients"


class RowBudget:
    """The bytes that clients' rows took in this hour, of a ledger of some size."""

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._hourly = size // SHARES
        self._clock = clock
        self._until = 0.0
        self._clients: dict[str, int] = {}
        self._unserved = 0

    def refusal(self, row: Row, size: int) -> str:
        """Return why a row of so many bytes is not written, or nothing where it is."""
        if "client" not in row or row["kind"] == "push":
            return ""
        if self._clock() >= self._until:
            self._until = self._clock() + _HOUR
            self._clients.clear()
            self._unserved = 0
        unserved = size if row["kind"] in _UNSERVED else 0
        if unserved and self._unserved + unserved > self._hourly // _OF_UNSERVED:
            return "more was asked for and not served than there is room for in an hour"
        client = client_network(row["client"])
        if client not in self._clients and len(self._clients) >= _MOST:
            client = _OTHERS
        used = self._clients.get(client, 0) + size
        if used > self._hourly // _OF_ONE:
            return f"{client} asked for more than a client has room for in an hour"
        self._clients[client] = used
        self._unserved += unserved
        return ""
