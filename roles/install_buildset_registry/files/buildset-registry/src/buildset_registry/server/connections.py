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
import logging
import os
import resource
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from buildset_registry.auth.access import client_network
from buildset_registry.http.context import Crowd
from buildset_registry.http.request import plain_address

_LOOK_SECONDS = 0.5
#: Descriptors that stay free for uploads, upstreams and the store, and what a connection takes: its
#: own one, and that of a file.
_RESERVE = 16
_EACH = 2
#: The same of a fetch from an upstream: its connection, the file that is written, and the one that
#: clients read; and the part of all descriptors that is the number of fetches.
_EACH_FETCH = 3
_FETCH_PART = 16
#: Connections that are at the beginning of TLS at once: Granian does not count them among the
#: others, and accepts as many as come between two looks.
_HANDSHAKES = 64
#: Requests that have been answered and not quite ended, while their clients send the next ones.
_OVERLAPPING = 8
#: Connections of an endpoint, and fetches, where there are hardly any descriptors.
_LEAST = 4
#: Where TCP_INFO says for how many milliseconds nothing was sent, and nothing received (tcp(7)).
_LAST_SENT = struct.Struct("=44xI4xI")

_log = logging.getLogger("buildset_registry.server")


def affordable(wanted: int, endpoints: int, *, tls: bool, fetches: int = 0) -> int:
    """Return how many connections each endpoint may have: as many as wanted, or as can be open.

    Beside so many ``fetches``. A process that is out of descriptors cannot even refuse a
    connection: the kernel says again and again that there is one.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most == resource.RLIM_INFINITY:
        return wanted
    free = most - len(_descriptors()) - _RESERVE - endpoints * (_HANDSHAKES if tls else 0)
    free -= _EACH_FETCH * affordable_fetches(fetches)
    return max(_LEAST, min(wanted, free // _EACH // max(endpoints, 1)))


def most_requests(connections: int, endpoints: int) -> int:
    """Return how many requests may be under way where each endpoint has so many connections.

    Each of these has one, for which there is a descriptor beside its own; one that goes on without
    its client has that only.
    """
    return connections * endpoints + _OVERLAPPING


def affordable_fetches(wanted: int) -> int:
    """Return how many blobs may be fetched at once: as many as wanted, or as can be open.

    They take less than a fifth of the descriptors. 0 is any number.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most == resource.RLIM_INFINITY or not wanted:
        return wanted
    return min(wanted, max(_LEAST, most // _FETCH_PART))


@dataclass(frozen=True, slots=True)
class _Held:
    """A connection of a client."""

    client: str
    port: int
    peer: Any
    """Its address as the kernel has it."""

    descriptor: int
    """Granian's, which another connection may have a moment later."""

    idle: int
    """Milliseconds for which nothing has moved."""


class ConnectionBudget:
    """Bounds what clients hold open at the ports that it watches, once it runs."""

    def __init__(self, crowd: Crowd, each_client: int, all_clients: int) -> None:
        self._each = each_client
        self._all = all_clients
        self._ports: set[int] = set()
        self._crowd = crowd
        self._glass = _Glass()
        self._looking = threading.Lock()

    def watch(self, port: int) -> None:
        """Bound the connections to a port, whatever serves it."""
        self._ports.add(port)

    async def run(self) -> None:
        """Look at the connections for ever."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                # Counted cheaply: only then can a bound have been reached.
                if len(_descriptors()) > min(self._each or self._all, self._all):
                    self._crowd.clients = await asyncio.to_thread(self._look_once)
                else:
                    self._crowd.clients = frozenset()
            except Exception:
                _log.exception("could not look at the connections; it is tried again")

    def connected(self) -> bool:
        """Tell whether a client is connected."""
        with self._looking:
            found = any(True for _one in self._glass.connections(self._ports))
            self._glass.put_down()
        return found

    def close(self) -> None:
        """Stop looking, when a look that has begun has ended."""
        with self._looking:
            self._glass.close()
            self._ports.clear()

    def _look_once(self) -> frozenset[str]:
        with self._looking:
            return self._look() if self._ports else frozenset()

    def _look(self) -> frozenset[str]:
        """End what is too much, and return the clients that held too many."""
        by_client: dict[str, list[_Held]] = defaultdict(list)
        for one in self._glass.connections(self._ports):
            by_client[one.client].append(one)
        for held in by_client.values():
            held.sort(key=lambda one: one.idle)
        over = [name for name, held in by_client.items() if 0 < self._each < len(held)]
        ended = [one for name in over for one in by_client[name][self._each :]]
        kept = {name: held[: self._each or None] for name, held in by_client.items()}
        ended += self._crowding(kept)
        for one in ended:
            self._glass.end(one)
        self._glass.put_down()
        if ended:
            names = ", ".join(sorted({plain_address(one.client) for one in ended})[:5])
            _log.warning(
                "ended %d connections of clients that hold too many: %s", len(ended), names
            )
        return frozenset(map(plain_address, over))

    def _crowding(self, by_client: dict[str, list[_Held]]) -> Iterator[_Held]:
        """Yield what has to end so that full endpoints can accept: of who holds most, first.

        A host of IPv6 could hold each of them by another address.
        """
        by_network: dict[str, list[_Held]] = defaultdict(list)
        for client, held in by_client.items():
            by_network[client_network(client)] += held
        ranked: dict[int, list[tuple[int, int, _Held]]] = defaultdict(list)
        for held in by_network.values():
            held.sort(key=lambda one: one.idle)
            for rank, one in enumerate(held):
                ranked[one.port].append((rank, one.idle, one))
        for found in ranked.values():
            if len(found) >= self._all:
                found.sort(key=lambda entry: entry[:2])
                yield from (one for _rank, _idle, one in found[self._all * 7 // 8 :])


class _Glass:
    """One descriptor by which the sockets of the process are looked at, one after the other.

    What its owner closes meanwhile cannot become another file in it; and it needs no descriptor
    more where there is none left.
    """

    def __init__(self) -> None:
        self._nothing = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)

    def put_down(self) -> None:
        """Hold no connection open."""
        os.dup2(self._nothing.fileno(), self._socket.fileno(), inheritable=False)

    def close(self) -> None:
        """Look no more."""
        self._socket.close()
        self._nothing.close()

    def connections(self, ports: set[int]) -> Iterator[_Held]:
        """Yield the connections that clients have to some ports."""
        for number in _descriptors():
            with contextlib.suppress(OSError, IndexError):
                port, peer = self._put_under(number)
                if port in ports:
                    info = self._socket.getsockopt(
                        socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_SENT.size
                    )
                    yield _Held(peer[0], port, peer, number, min(_LAST_SENT.unpack(info)))

    def end(self, one: _Held) -> None:
        """End a connection, unless it has ended."""
        with contextlib.suppress(OSError, IndexError):
            if self._put_under(one.descriptor) == (one.port, one.peer):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _put_under(self, number: int) -> tuple[int, Any]:
        """Look at a descriptor; returns the port here and the address there of a connection."""
        os.dup2(number, self._socket.fileno(), inheritable=False)
        return self._socket.getsockname()[1], self._socket.getpeername()


def _descriptors() -> Sequence[int]:
    """Return the open descriptors, all that can be where there are that many."""
    try:
        return [*map(int, os.listdir("/proc/self/fd"))]  # noqa: PTH208 - names, not paths
    except OSError:
        return range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
