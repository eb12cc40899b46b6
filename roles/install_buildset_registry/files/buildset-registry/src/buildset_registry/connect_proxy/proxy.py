# SPDX-License-Identifier: Apache-2.0
"""The listener of the proxy: joins a client with the registry itself or with another server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from buildset_registry.auth.access import ANONYMOUS, Identity
from buildset_registry.connect_proxy.connect import (
    ESTABLISHED,
    HEAD_END,
    MAX_HEAD,
    Admission,
    ConnectRefused,
    ConnectRequest,
    parse_head,
    refusal_bytes,
)
from buildset_registry.connect_proxy.dialer import Dialer
from buildset_registry.connect_proxy.hosts import Server
from buildset_registry.connect_proxy.loopback import ProxiedClient, ProxiedConnections
from buildset_registry.connect_proxy.tunnel import BUFFER, Connection, Tunnel
from buildset_registry.http.accesslog import CLIENT_LEFT, AccessRecord
from buildset_registry.http.request import plain_address
from buildset_registry.oci.hosts import RegistryHost

#: Seconds for TLS and for the head of a request.
_HEAD_SECONDS = 30.0
#: Connections that may wait to be accepted, and that may be there without a tunnel yet.
_BACKLOG = 1024
_WAITING = 1024
#: Where the registry answers the proxy.
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of what all clients and each of them may use."""

    tunnels: int
    """Tunnels at once."""

    idle: float
    """Seconds for which nothing may go through a tunnel."""


@dataclass(frozen=True, slots=True)
class LoopbackEndpoint:
    """The registry itself: which servers it answers for, and where it does."""

    registries: Mapping[Server, RegistryHost]
    port: int
    """On loopback."""

    connections: ProxiedConnections


@dataclass(slots=True)
class ProxiedRequest:
    """The record of a request, for the access log."""

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


class ConnectProxy:
    """Listens once told to; ``refuse`` lets nobody else in, ``close`` ends the tunnels."""

    def __init__(
        self,
        admission: Admission,
        endpoint: LoopbackEndpoint,
        dialer: Dialer,
        limits: Limits,
        record: AccessRecord,
    ) -> None:
        self._admission = admission
        self._endpoint = endpoint
        self._dialer = dialer
        self._limits = limits
        self._record = record
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
        stream = Connection(reader, writer)
        if len(self._tasks) - self._tunnels >= _WAITING:
            stream.abort()
            return
        task = asyncio.create_task(self._serve(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, stream: Connection) -> None:
        """Answer the one request of a connection, and note it."""
        began = time.perf_counter()
        request = ProxiedRequest(_address(stream))
        self._record.counters.running += 1
        try:
            await self._answer(request, stream)
        except ConnectRefused as refusal:
            request.status = refusal.status
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(_refuse(stream, refusal), _HEAD_SECONDS)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            request.status = CLIENT_LEFT
        finally:
            stream.abort()
            self._record.counters.running -= 1
            if request.url:
                seconds = time.perf_counter() - began
                self._record.add(request, request.status, request.sent, seconds)

    async def _answer(self, request: ProxiedRequest, stream: Connection) -> None:
        asked = await asyncio.wait_for(_read_head(stream), _HEAD_SECONDS)
        request.method, request.url, request.headers = asked.method, asked.target, asked.headers
        host, port = asked.server()
        credentials = asked.headers.get("proxy-authorization", "")
        request.identity = await self._admission.admit(request.client, credentials)
        if self._dialer.came_around(asked.headers.get("via", "")):
            raise ConnectRefused(
                508, "this proxy asks itself; take it out of HTTPS_PROXY of the registry"
            )
        if self._tunnels >= self._limits.tunnels:
            raise ConnectRefused(
                503,
                f"{self._tunnels} tunnels are open (proxy.tunnels); try again soon",
                {"Retry-After": "5"},
            )
        self._tunnels += 1
        try:
            registry = self._endpoint.registries.get((host, port))
            if registry is None:
                request.route = "proxy-tunnel"
                await self._join(request, stream, await self._dialer.open(host, port))
            else:
                request.route = "proxy-registry"
                await self._join_registry(
                    request, stream, ProxiedClient(request.client, registry, credentials)
                )
        finally:
            self._tunnels -= 1

    async def _join_registry(
        self, request: ProxiedRequest, stream: Connection, client: ProxiedClient
    ) -> None:
        """Make the registry itself the server."""
        sock = await _connected_to(self._endpoint.port)
        source = sock.getsockname()
        server = Connection(*await asyncio.open_connection(sock=sock, limit=BUFFER))
        with self._endpoint.connections.present(source, client):
            await self._join(request, stream, server)

    async def _join(self, request: ProxiedRequest, client: Connection, server: Connection) -> None:
        tunnel = Tunnel(client, server)
        try:
            request.status = 200
            await client.send(ESTABLISHED)
            await tunnel.run(self._limits.idle)
        finally:
            server.abort()
            request.sent, request.received = tunnel.sent, tunnel.received


async def _connected_to(port: int) -> socket.socket:
    """Connect to a port on loopback, from one that nobody else gets while the socket is open.

    A port that the kernel chooses in connect() is free again as soon as the other side resets the
    connection, before we know of it; one that was bound is not (without SO_REUSEADDR).
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind((LOOPBACK, 0))
        await asyncio.get_running_loop().sock_connect(sock, (LOOPBACK, port))
    except BaseException:
        sock.close()
        raise
    return sock


async def _read_head(stream: Connection) -> ConnectRequest:
    try:
        raw = await stream.reader.readuntil(HEAD_END)
    except asyncio.LimitOverrunError:
        raw = b""
    if not 0 < len(raw) <= MAX_HEAD:
        raise ConnectRefused(431, f"the head of the request is longer than {MAX_HEAD} bytes")
    return parse_head(raw)


async def _refuse(stream: Connection, refusal: ConnectRefused) -> None:
    await stream.send(refusal_bytes(refusal))
    await stream.close()


def _address(stream: Connection) -> str:
    peer = stream.writer.get_extra_info("peername")
    return plain_address(str(peer[0])) if peer else ""
