# SPDX-License-Identifier: Apache-2.0
"""The endpoint behind the proxy, and the clients on whose behalf the proxy connects to it.

The endpoint listens on loopback and sees the proxy as its client. The address and port that the
proxy connects from say on whose behalf it does; whoever else connects there is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from buildset_registry.errors import Denied, RegistryError
from buildset_registry.http.asgi import Application, Receive, Scope, Send
from buildset_registry.http.response import error_response, send_response
from buildset_registry.oci.hosts import RegistryHost

#: An address and a port. Another user can have the port at another address of loopback.
Source = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ProxiedClient:
    """The client behind a connection, and the registry that it is to."""

    client: str
    """The client's address."""

    registry: RegistryHost
    credentials: str = field(repr=False)
    """An Authorization header, of a user who was let in."""


class ProxiedConnections:
    """The connections of the proxy to the endpoint, by the address and port they come from."""

    def __init__(self) -> None:
        self._by_source: dict[Source, ProxiedClient] = {}

    @contextlib.contextmanager
    def present(self, source: Source, behind: ProxiedClient) -> Iterator[None]:
        """Know a connection as long as it lasts."""
        self._by_source[source] = behind
        try:
            yield
        finally:
            del self._by_source[source]

    def find(self, scope: Scope) -> ProxiedClient | None:
        """Return the client behind the connection of a request."""
        client = scope.get("client")
        # Granian gives the port as text, ASGI as a number.
        return self._by_source.get((client[0], int(client[1]))) if client else None


class LoopbackApp:
    """The application of an endpoint, as docker sees it that takes it for another registry."""

    def __init__(self, app: Application, connections: ProxiedConnections, own_agent: str) -> None:
        self._app = app
        self._connections = connections
        self._own_agent = own_agent.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        behind = self._connections.find(scope)
        try:
            if behind is None:
                raise Denied("this port is for the registry's own proxy")
            self._check_loop(scope, behind)
        except RegistryError as error:
            head = scope["method"] == "HEAD"
            await send_response(error_response(error), receive, send, head=head)
        else:
            await self._app(_as_client_sent(scope, behind), receive, send)

    def _check_loop(self, scope: Scope, behind: ProxiedClient) -> None:
        """Refuse what the registry itself asks for, which would wait for its own answer."""
        if any(pair == (b"user-agent", self._own_agent) for pair in map(tuple, scope["headers"])):
            raise Denied(
                f"a registry asks its own proxy for {behind.registry}; this proxy is for docker "
                "alone, take it out of HTTPS_PROXY of the registry"
            )


def _as_client_sent(scope: Scope, behind: ProxiedClient) -> Scope:
    """Return a request as the client behind the connection made it, with the registry's name.

    docker's own credentials are for the other registry: nothing here asks for them.
    """
    query = b"ns=" + quote(behind.registry, safe=":").encode()
    if scope["query_string"]:
        query += b"&" + scope["query_string"]
    kept = [pair for pair in scope["headers"] if pair[0] != b"authorization"]
    return {
        **scope,
        "client": (behind.client, 0),
        "query_string": query,
        "headers": [*kept, (b"authorization", behind.credentials.encode("latin-1"))],
    }
