# SPDX-License-Identifier: Apache-2.0
"""Ask a server that was started whether it answers, as a client would: TLS, then ``GET /v2/``."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from buildset_registry.config import Config, Endpoint

_SECONDS = 5.0


def listeners(config: Config) -> list[Endpoint]:
    """Return the endpoints that a configuration has, the proxy among them."""
    ends = config.endpoints
    found = [end for end in (ends.pull, ends.push, ends.single) if end is not None]
    if config.proxy is not None:
        found.append(Endpoint(port=config.proxy.port, address=config.proxy.address))
    return found


def answers(endpoint: Endpoint, trusted: Path | None, *, tls: bool) -> bool:
    """Tell whether the endpoint answers; ``trusted`` verifies it, unless the certificate is a
    user's, which need not be good for ``localhost``.
    """
    host = endpoint.address
    if host in (None, "::", "0.0.0.0"):  # noqa: S104  # compared, not listened on
        host = "localhost"
    try:
        with socket.create_connection((host, endpoint.port), _SECONDS) as plain:
            if not tls:
                return _speaks_http(plain)
            with _context(trusted).wrap_socket(plain, server_hostname="localhost") as wrapped:
                return _speaks_http(wrapped)
    except OSError:
        return False


def _context(trusted: Path | None) -> ssl.SSLContext:
    if trusted is not None:
        return ssl.create_default_context(cafile=trusted)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _speaks_http(connection: socket.socket) -> bool:
    """Any status will do: a network that is not allowed gets 403, a push endpoint says 401,
    a proxy 405."""
    connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return connection.recv(16).startswith(b"HTTP/1.")
