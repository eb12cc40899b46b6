# SPDX-License-Identifier: Apache-2.0
"""What clients say of themselves takes little room in events and in the log, however long it is."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from buildset_registry.auth.access import Identity
from buildset_registry.http.accesslog import AccessLog, Format
from buildset_registry.http.events import Events
from buildset_registry.http.request import Request
from buildset_registry.http.response import Bytes, Response
from buildset_registry.ledger.rows import LONGEST, clipped
from buildset_registry.notifications.events import Event, Source
from buildset_registry.oci.digest import Digest

LONG = "x" * 100_000
DIGEST = Digest.of(b"content")


def request(agent: str, host: str, user: str) -> Request:
    scope: Any = {
        "type": "http",
        "method": "GET",
        "path": "/v2/app/manifests/1",
        "query_string": b"",
        "headers": [(b"user-agent", agent.encode()), (b"host", host.encode())],
        "client": ("10.0.0.1", 1),
        "scheme": "https",
    }
    made = Request(scope, None)  # type: ignore[arg-type]
    made.route, made.path = "end-3", {"name": "app", "reference": "1"}
    made.identity = Identity(user)
    return made


class Told(list[Event]):
    """A receiver of events that keeps them."""

    def put(self, event: Event) -> None:
        self.append(event)


async def told(asked: Request) -> Event:
    """Return the event of a manifest that was pulled."""
    recipient, context = Told(), None
    headers = {"Content-Type": "a/b", "Docker-Content-Digest": str(DIGEST)}
    events = Events([recipient], context)  # type: ignore[arg-type]  # what was pulled is at hand
    await events.add(asked, Response(200, headers, Bytes(b"content")))
    (event,) = recipient
    return event


async def test_an_event_is_short() -> None:
    """Thousands of them may wait for a receiver that does not answer."""
    event = await told(request(LONG, LONG, LONG))
    assert len(Source(5000).envelope(event)) < 10 * LONGEST
    assert event.cause.agent == event.cause.host == event.cause.user == clipped(LONG)
    assert event.target.url == f"https://localhost/v2/app/manifests/{DIGEST}"


async def test_an_event_has_what_is_short_as_it_is() -> None:
    event = await told(request("docker/29", "r.example:5000", "ci"))
    assert (event.cause.agent, event.cause.host, event.cause.user) == (
        "docker/29",
        "r.example:5000",
        "ci",
    )
    assert event.target.url == f"https://r.example:5000/v2/app/manifests/{DIGEST}"


@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_line_of_the_log_is_short(form: Format) -> None:
    """Nobody fills a disk by what he calls himself."""
    output = io.StringIO()
    log = AccessLog(output, form)
    log.add(request('"' * 100_000, "r", "ci"), 200, 7, 0.1)
    log.flush()
    assert len(output.getvalue()) < 3 * LONGEST
    if form == "json":
        assert json.loads(output.getvalue())["agent"] == '"' * LONGEST
