# SPDX-License-Identifier: Apache-2.0
"""What the ledger is told of requests takes little room, whatever clients call themselves."""

from __future__ import annotations

from typing import Any

from buildset_registry.auth.access import Identity
from buildset_registry.http.accesslog import LedgerNotes
from buildset_registry.http.request import Request
from buildset_registry.http.response import Response
from buildset_registry.ledger.ledger import Sightings
from buildset_registry.ledger.rows import LONGEST, Sighting, clipped


def request(agent: str, user: str | None) -> Request:
    scope: Any = {
        "type": "http",
        "method": "GET",
        "path": "/v2/app/manifests/1",
        "query_string": b"",
        "headers": [(b"user-agent", agent.encode())],
        "client": ("10.0.0.1", 1),
    }
    made = Request(scope, None)  # type: ignore[arg-type]
    made.route, made.path = "end-3", {"name": "app", "reference": "1"}
    made.identity = Identity(user)
    return made


def test_a_long_agent_and_a_long_user_are_not_kept_whole() -> None:
    sightings = Sightings()
    notes = LedgerNotes(sightings)
    notes.add(request("x" * 100_000, "u" * 100_000), Response(404), 0)
    notes.add(request("docker", None), Response(404), 0)
    long, short = (Sighting._make(key) for key in sightings.seen)
    assert len(long.agent) <= LONGEST + 1 and len(long.user or "") <= LONGEST + 1
    assert clipped(long.agent) == clipped("x" * 100_000)  # a row says that it goes on
    assert (short.agent, short.user) == ("docker", None)
