# SPDX-License-Identifier: Apache-2.0
"""The endpoint behind the proxy: it serves the proxy's clients, each by its connection."""

from __future__ import annotations

from typing import Any

import httpx
from buildset_registry.connect_proxy import LoopbackApp, ProxiedConnections
from buildset_registry.connect_proxy.loopback import ProxiedClient
from buildset_registry.http.asgi import Receive, Scope, Send
from buildset_registry.oci.hosts import RegistryHost

PORT = 4711
AGENT = "buildset-registry/1"


class Seen:
    """An application that remembers what it was asked."""

    scope: Scope

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


async def ask(port: int, address: str = "127.0.0.1", **options: Any) -> tuple[httpx.Response, Seen]:
    """Ask for a page from a port, on which one visitor is known."""
    seen, connections = Seen(), ProxiedConnections()
    transport = httpx.ASGITransport(LoopbackApp(seen, connections, AGENT), client=(address, port))
    visitor = ProxiedClient("192.0.2.7", RegistryHost("quay.io:8443"), "Basic eDp5")
    with connections.present(("127.0.0.1", PORT), visitor):
        async with httpx.AsyncClient(transport=transport, base_url="https://quay.io") as client:
            return await client.get("/v2/", **options), seen


async def test_a_request_is_seen_as_its_client_made_it() -> None:
    """With the client's address, the registry's name, and the proxy's credentials."""
    answer, seen = await ask(PORT, params={"n": "5"}, headers={"Authorization": "Basic YTpi"})
    assert answer.status_code == 204
    assert seen.scope["client"][0] == "192.0.2.7"
    assert seen.scope["query_string"] == b"ns=quay.io:8443&n=5"
    told = [value for name, value in seen.scope["headers"] if name == b"authorization"]
    assert told == [b"Basic eDp5"]


async def test_who_does_not_come_by_the_proxy_is_refused() -> None:
    """Whoever finds the port on loopback."""
    answer, _seen = await ask(PORT + 1)
    assert answer.status_code == 403


async def test_who_has_the_port_at_another_address_is_refused() -> None:
    """Every user of the host can bind it there."""
    answer, _seen = await ask(PORT, "127.0.0.2")
    assert answer.status_code == 403


async def test_a_registry_that_asks_itself_is_told_so() -> None:
    """It would wait for its own answer."""
    answer, _seen = await ask(PORT, headers={"User-Agent": AGENT})
    assert answer.status_code == 403
    assert "HTTPS_PROXY" in answer.json()["errors"][0]["message"]
