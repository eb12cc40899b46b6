# SPDX-License-Identifier: Apache-2.0
"""Killed at any moment, a registry loses nothing that it acknowledged."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.reliability import crashes
from tests.reliability.server import Server, digest_of

KILLS = 12


def test_killed_twelve_times(serve: Callable[..., Server]) -> None:
    """Over one store: what was acknowledged is there, and nothing is left half-made."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    outcome = crashes.run(serve, KILLS, seed)
    print(outcome.figures)
    crashes.check(outcome, KILLS)


def test_a_push_goes_on_after_a_kill(server: Server) -> None:
    """From the offset that the client was told: of a session that has nothing yet, and of some."""
    client = server.client()
    content = b"of two pieces"
    places = [client.ask("POST", "/v2/app/blobs/uploads/").headers["Location"] for _ in range(2)]
    told = client.ask("PATCH", places[1], content[:5])
    assert (told.status, told.headers["Range"]) == (202, "0-4")
    server.kill()
    server.start()
    client = server.client()
    for place, range_, rest in zip(places, ("0-0", "0-4"), (content, content[5:]), strict=True):
        found = client.ask("GET", place)
        assert (found.status, found.headers["Range"]) == (204, range_)
        answer = client.ask("PUT", f"{place}?digest={digest_of(content)}", rest)
        assert answer.status == 201
        assert client.ask("GET", place).status == 404
