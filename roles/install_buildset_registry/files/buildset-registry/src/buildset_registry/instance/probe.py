# SPDX-License-Identifier: Apache-2.0
"""A probe of a server that was started: does it answer as to a client, by TLS and ``GET /v2/``."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buildset_registry.config import Config, Endpoint
from buildset_registry.instance.paths import InstancePaths

_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Probe:
    """The endpoints of a registry, the proxy among them, and how a client would trust them."""

    endpoints: tuple[Endpoint, ...]
    tls: bool
    trusted: Path | None
    """The certificates that verify them; a user's own need not be good for ``localhost``."""

    @classmethod
    def of(cls, config: Config, paths: InstancePaths) -> Probe:
        """Return the probe of a configuration."""
        ends = config.endpoints
        found = [end for end in (ends.pull, ends.push, ends.single) if end is not None]
        if config.proxy is not None:
            found.append(Endpoint(port=config.proxy.port, address=config.proxy.address))
        own = config.tls is not None and config.tls.certificate == paths.certificate
        tls = config.tls is not None or config.acme is not None
        return cls(tuple(found), tls, paths.authority if own else None)

    def silent(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """Return those of the endpoints that do not answer."""
        return [end for end in endpoints if not self._answers(end)]

    def _answers(self, endpoint: Endpoint) -> bool:
        host = endpoint.address
        if host in (None, "::", "0.0.0.0"):  # noqa: S104  # compared, not listened on
            host = "localhost"
        try:
            with socket.create_connection((host, endpoint.port), _SECONDS) as plain:
                if not self.tls:
                    return _speaks_http(plain)
                with self._context().wrap_socket(plain, server_hostname="localhost") as wrapped:
                    return _speaks_http(wrapped)
        except OSError:
            return False

    def _context(self) -> ssl.SSLContext:
        if self.trusted is not None:
            return ssl.create_default_context(cafile=self.trusted)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


def _speaks_http(connection: socket.socket) -> bool:
    """Tell whether a server answers with any status.

    A network that is not allowed gets 403, a push endpoint says 401, a proxy 405.
    """
    connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return connection.recv(16).startswith(b"HTTP/1.")
