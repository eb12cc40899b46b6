# SPDX-License-Identifier: Apache-2.0
"""The listener: lets a client in, and joins it with the registry itself or with another server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from buildset_registry.auth.access import ANONYMOUS, Identity
from buildset_registry.http.journal import CLIENT_LEFT, Journal
from buildset_registry.http.request import plain_address
from buildset_registry.proxy.door import Door
from buildset_registry.proxy.head import (
    END,
    ESTABLISHED,
    LARGEST_HEAD,
    Asked,
    Refusal,
    parse_head,
    refusal_bytes,
)
from buildset_registry.proxy.reach import Reach
from buildset_registry.proxy.registries import Server
from buildset_registry.proxy.tunnel import BUFFER, Stream, Tunnel
from buildset_registry.proxy.visitors import Visitor, Visitors

#: Seconds for TLS and for the head of a request.
_HEAD_SECONDS = 30.0
#: Connections that may wait to be accepted, and that may be there without a tunnel yet.
_BACKLOG = 1024
_WAITING = 1024
#: Where the registry answers the proxy.
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What clients may use."""

    tunnels: int
    """Tunnels at once."""

    idle: float
    """Seconds for which nothing may go through a tunnel."""


@dataclass(frozen=True, slots=True)
class Within:
    """The registry itself: which servers it answers for, and where it does."""

    registries: Mapping[Server, str]
    port: int
    """On loopback."""

    visitors: Visitors


@dataclass(slots=True)
class _Request:
    """What is logged of a request."""

    client: str
    method: str = "-"
    url: str = ""
    registry: str = ""
    route: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    identity: Identity = ANONYMOUS
    received: int = 0
    sent: int = 0
    status: int = CLIENT_LEFT


class Proxy:
    """Listens once told to; ``refuse`` lets nobody else in, ``close`` ends the tunnels."""

    def __init__(
        self, door: Door, within: Within, reach: Reach, bounds: Bounds, journal: Journal
    ) -> None:
        self._door = door
        self._within = within
        self._reach = reach
        self._bounds = bounds
        self._journal = journal
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._tunnels = 0

    async def listen(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Let clients in."""
        self._server = await asyncio.start_server(
            self._accept,
            sock=listener,
            limit=BUFFER,
            backlog=_BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=_HEAD_SECONDS if tls else None,
        )

    def refuse(self) -> None:
        """Let nobody else in."""
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        """End every tunnel."""
        self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = Stream(reader, writer)
        if len(self._tasks) - self._tunnels >= _WAITING:
            stream.abort()
            return
        task = asyncio.create_task(self._serve(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, stream: Stream) -> None:
        """Answer the one request of a connection, and note it."""
        began = time.perf_counter()
        request = _Request(_address(stream))
        self._journal.traffic.running += 1
        try:
            await self._answer(request, stream)
        except Refusal as refusal:
            request.status = refusal.status
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(_refuse(stream, refusal), _HEAD_SECONDS)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            request.status = CLIENT_LEFT
        finally:
            stream.abort()
            self._journal.traffic.running -= 1
            if request.url:
                seconds = time.perf_counter() - began
                self._journal.add(request, request.status, request.sent, seconds)

    async def _answer(self, request: _Request, stream: Stream) -> None:
        asked = await asyncio.wait_for(_read_head(stream), _HEAD_SECONDS)
        request.method, request.url, request.headers = asked.method, asked.target, asked.headers
        host, port = asked.server()
        credentials = asked.headers.get("proxy-authorization", "")
        request.identity = await self._door.admit(request.client, credentials)
        if self._reach.came_around(asked.headers.get("via", "")):
            raise Refusal(508, "this proxy asks itself; take it out of HTTPS_PROXY of the registry")
        if self._tunnels >= self._bounds.tunnels:
            raise Refusal(
                503,
                f"{self._tunnels} tunnels are open (proxy.tunnels); try again soon",
                {"Retry-After": "5"},
            )
        self._tunnels += 1
        try:
            registry = self._within.registries.get((host, port))
            if registry is None:
                request.route = "proxy-tunnel"
                await self._join(request, stream, await self._reach.open(host, port))
            else:
                request.route = "proxy-registry"
                await self._join_registry(
                    request, stream, Visitor(request.client, registry, credentials)
                )
        finally:
            self._tunnels -= 1

    async def _join_registry(self, request: _Request, stream: Stream, visitor: Visitor) -> None:
        """Make the registry itself the server."""
        opening = asyncio.open_connection(LOOPBACK, self._within.port, limit=BUFFER)
        inside = Stream(*await opening)
        own_port = inside.writer.get_extra_info("sockname")[1]
        with self._within.visitors.present(own_port, visitor):
            await self._join(request, stream, inside)

    async def _join(self, request: _Request, client: Stream, server: Stream) -> None:
        tunnel = Tunnel(client, server)
        try:
            request.status = 200
            await client.send(ESTABLISHED)
            await tunnel.run(self._bounds.idle)
        finally:
            server.abort()
            request.sent, request.received = tunnel.sent, tunnel.received


async def _read_head(stream: Stream) -> Asked:
    try:
        raw = await stream.reader.readuntil(END)
    except asyncio.LimitOverrunError:
        raw = b""
    if not 0 < len(raw) <= LARGEST_HEAD:
        raise Refusal(431, f"the head of the request is longer than {LARGEST_HEAD} bytes")
    return parse_head(raw)


async def _refuse(stream: Stream, refusal: Refusal) -> None:
    await stream.send(refusal_bytes(refusal))
    await stream.close()


def _address(stream: Stream) -> str:
    peer = stream.writer.get_extra_info("peername")
    return plain_address(str(peer[0])) if peer else ""
