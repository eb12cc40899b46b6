# SPDX-License-Identifier: Apache-2.0
"""Connections: how many a client may hold, and how many an endpoint, below the files it may open.

Granian accepts by itself, as many at once as it is told; who they are from only the kernel knows.
Now and then the process looks at its own sockets. A client that holds more connections than it may
loses those on which nothing has moved for longest, and what it asks meanwhile is answered by 429.
An endpoint that is full loses those of the clients that hold most: else nobody could come in.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from buildset_registry.errors import TooManyRequests
from buildset_registry.http.asgi import Application, Receive, Scope, Send
from buildset_registry.http.request import plain_address
from buildset_registry.http.response import error_response, send_response

_LOOK_SECONDS = 0.5
#: Descriptors that stay free for uploads, upstreams and the store, and what a connection takes: its
#: own one, and that of a file.
_RESERVE = 16
_EACH = 2
#: Connections of an endpoint where there are hardly any descriptors.
_LEAST = 4
#: Where TCP_INFO says for how many milliseconds nothing was sent, and nothing received (tcp(7)).
_LAST_SENT = struct.Struct("=44xI4xI")

_log = logging.getLogger("buildset_registry.server")


def affordable(wanted: int, endpoints: int) -> int:
    """Return how many connections each endpoint may have: as many as wanted, or as can be open.

    A process that is out of descriptors cannot even refuse a connection: the kernel says again
    and again that there is one.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most == resource.RLIM_INFINITY:
        return wanted
    free = most - len(os.listdir("/proc/self/fd")) - _RESERVE  # noqa: PTH208 - names, not paths
    return max(_LEAST, min(wanted, free // _EACH // max(endpoints, 1)))


@dataclass(frozen=True, slots=True)
class _Held:
    """A connection of a client, by a descriptor of its own."""

    client: str
    port: int
    descriptor: int
    idle: int
    """Milliseconds for which nothing has moved."""


class ConnectionBudget:
    """Bounds what clients hold open: ``run`` it, and serve by ``bounded`` applications."""

    def __init__(self, each_client: int, all_clients: int) -> None:
        self._each = each_client
        self._all = all_clients
        self._ports: set[int] = set()
        self._over: frozenset[str] = frozenset()

    def bounded(self, app: Application, port: int) -> Application:
        """Return the application of the endpoint on a port for clients within their bound."""
        self.watch(port)

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if self._over and scope["type"] == "http" and scope["client"][0] in self._over:
                await self._refuse(scope, receive, send)
            else:
                await app(scope, receive, send)

        return serve

    def watch(self, port: int) -> None:
        """Bound the connections to a port, whatever serves it."""
        self._ports.add(port)

    async def run(self) -> None:
        """Look at the connections for ever."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                if self._are_many():
                    self._over = await asyncio.to_thread(self._look)
                else:
                    self._over = frozenset()
            except Exception:
                _log.exception("could not look at the connections; it is tried again")

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = plain_address(scope["client"][0])
        error = TooManyRequests(
            f"{client} holds more than {self._each} connections (limits.client_connections); "
            "try again soon",
            headers={"Retry-After": "2", "Connection": "close"},
        )
        await send_response(error_response(error), receive, send, head=scope["method"] == "HEAD")

    def _are_many(self) -> bool:
        """Tell cheaply whether a bound can have been reached."""
        files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names, not paths
        return files > min(self._each or self._all, self._all)

    def _look(self) -> frozenset[str]:
        """End what is too much, and return the clients that held too many."""
        by_client: dict[str, list[_Held]] = defaultdict(list)
        with contextlib.ExitStack() as stack:
            for one in _connections(self._ports, stack):
                by_client[one.client].append(one)
            for held in by_client.values():
                held.sort(key=lambda one: one.idle)
            over = [name for name, held in by_client.items() if 0 < self._each < len(held)]
            ended = [one for name in over for one in by_client[name][self._each :]]
            kept = {name: held[: self._each or None] for name, held in by_client.items()}
            ended += self._crowding(kept)
            for one in ended:
                _end(one.descriptor)
        if ended:
            names = ", ".join(sorted({plain_address(one.client) for one in ended})[:5])
            _log.warning(
                "ended %d connections of clients that hold too many: %s", len(ended), names
            )
        return frozenset(over)

    def _crowding(self, by_client: dict[str, list[_Held]]) -> Iterator[_Held]:
        """Yield what has to end so that full endpoints can accept: of who holds most, first."""
        ranked: dict[int, list[tuple[int, int, _Held]]] = defaultdict(list)
        for held in by_client.values():
            for rank, one in enumerate(held):
                ranked[one.port].append((rank, one.idle, one))
        for found in ranked.values():
            if len(found) >= self._all:
                found.sort(key=lambda entry: entry[:2])
                yield from (one for _rank, _idle, one in found[self._all * 7 // 8 :])


def _connections(ports: set[int], stack: contextlib.ExitStack) -> Iterator[_Held]:
    """Yield the connections that clients have to some ports of this process.

    Each by a descriptor of ours: what its owner closes meanwhile cannot become another file.
    """
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names, not paths
        try:
            own = os.dup(int(name))
        except OSError as error:
            if error.errno == errno.EBADF:
                continue
            raise
        try:
            found = _held(own, ports)
        except OSError:
            found = None
        if found is None:
            os.close(own)
        else:
            stack.callback(os.close, own)
            yield found


def _held(descriptor: int, ports: set[int]) -> _Held | None:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, fileno=descriptor)
    try:
        port = sock.getsockname()[1]
        if port not in ports:
            return None
        client = sock.getpeername()[0]
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_SENT.size)
    except IndexError:
        return None
    finally:
        sock.detach()
    return _Held(client, port, descriptor, min(_LAST_SENT.unpack(info)))


def _end(descriptor: int) -> None:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, fileno=descriptor)
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.detach()
