# SPDX-License-Identifier: Apache-2.0
"""The HTTP server of one listener: Granian, on a socket of ours, renewed for a new certificate.

The only module that knows Granian. HTTP/1.1 only: with HTTP/2 switched on, Granian hands uploads
over in 16 KiB pieces (four times the CPU).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from tempfile import TemporaryDirectory
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from buildset_registry.http.asgi import Application
from buildset_registry.server.certificates import Credentials
from buildset_registry.server.sockets import BACKLOG

#: Seconds for the head of a request, so that a client that trickles it does not keep its place.
_HEAD_SECONDS = 30
#: Seconds after which a replaced server ends the connections on which nothing runs: those that
#: were new have sent a request by then, those that were idle have ended.
_RETIRING_SECONDS = _HEAD_SECONDS + 5


class HttpServer:
    """Serves an application on a socket: ``start``, ``stop``, then wait for ``serving``."""

    def __init__(
        self, app: Application, listener: socket.socket, connections: int, *, buffer: int
    ) -> None:
        self._app = app
        self._socket = listener
        self._connections = connections
        self._settings = HTTP1Settings(
            header_read_timeout=_HEAD_SECONDS * 1000,
            max_buffer_size=buffer,
        )
        self._current: Server | None = None
        self._serving: dict[Server, asyncio.Future[None]] = {}

    @property
    def serving(self) -> list[asyncio.Future[None]]:
        """Return what ends when no request runs any more, of the replaced ones too."""
        return list(self._serving.values())

    @property
    def ended(self) -> bool:
        """Tell whether nobody serves any more, though nobody has stopped it."""
        return self._current is not None and self._serving[self._current].done()

    def start(self, tls: Credentials | None) -> None:
        """Let clients in."""
        server = _OnSocket(
            self._socket,
            self._app,
            tls,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            http1_settings=self._settings,
            websockets=False,
            runtime_threads=1,
            backpressure=self._connections,
            log_enabled=False,
        )
        task = asyncio.ensure_future(server.serve())
        self._serving[server] = task
        self._current = server
        task.add_done_callback(lambda _done: self._forget(server))

    def renew(self, tls: Credentials) -> None:
        """Show another certificate to who connects from now on; what runs goes on as before.

        Another server accepts from the same socket, so nobody is turned away. The one before
        accepts nobody else and ends later: Granian breaks off a connection that is new or idle
        when it is told to stop.
        """
        before, descriptors = self._current, _others_of(self._socket)
        self.start(tls)
        _silence(descriptors)
        if before is not None:
            later = asyncio.get_running_loop().call_later(_RETIRING_SECONDS, _stop, before)
            self._serving[before].add_done_callback(lambda _done: later.cancel())

    def pause(self) -> None:
        """Accept nobody else, and serve whoever was accepted: who connects from now on waits."""
        _silence(_others_of(self._socket))

    def stop(self) -> None:
        """Let nobody else in."""
        for server in self._serving:
            _stop(server)

    def _forget(self, server: Server) -> None:
        """Keep the current one: that it has ended by itself is to be seen."""
        if server is not self._current:
            del self._serving[server]


class _OnSocket(Server):
    """Granian's server on a socket that listens already, instead of one that it makes itself."""

    def __init__(
        self, listener: socket.socket, app: Application, tls: Credentials | None, **settings: Any
    ) -> None:
        self._listener = listener
        self._credentials = tls
        address, port = listener.getsockname()[:2]
        super().__init__(app, address, port, **settings)

    def build_ssl_context(self, *_unused: object) -> None:
        """Have Granian read what was checked: it ends the process where it cannot read it."""
        tls = self._credentials
        files = (tls.certificate_path, tls.key_path) if tls else (None, None)
        self.ssl_ctx = (tls is not None, *files, None, str(SSLProtocols.tls12), None, [], False)

    def _init_shared_socket(self) -> None:
        # The holder closes what it holds.
        make: Any = SocketHolder  # its stub knows no arguments
        self._shd = make(os.dup(self._listener.fileno()), False, BACKLOG)


def _others_of(listener: socket.socket) -> list[int]:
    """Return the descriptors of a socket but its own one: those of the server that accepts."""
    wanted, own = os.fstat(listener.fileno()), listener.fileno()
    found = []
    for number in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - names, not paths
        with contextlib.suppress(OSError):
            if number != own and os.path.samestat(os.fstat(number), wanted):
                found.append(number)
    return found


def _silence(descriptors: list[int]) -> None:
    """Put a socket that nobody can connect to in the place of those that a server accepts from."""
    with TemporaryDirectory(prefix="buildset-registry-") as folder:
        silent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with silent:
            silent.bind(f"{folder}/silent")
            silent.listen(1)
            for number in descriptors:
                os.dup2(silent.fileno(), number, inheritable=False)


def _stop(server: Server) -> None:
    server.stop()  # type: ignore[no-untyped-call]  # Granian leaves it unannotated
