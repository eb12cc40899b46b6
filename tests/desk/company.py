# SPDX-License-Identifier: Apache-2.0
"""A company's network: a mirror of packages over TLS, and a proxy that leads to it alone."""

from __future__ import annotations

import hashlib
import re
import shutil
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme

#: That of the enclosed machine.
ADDRESS = "192.0.2.1"


class Mirror(ThreadingHTTPServer):
    """A simple index (PEP 503) of a folder of wheels; it keeps the names of those it served."""

    daemon_threads = True

    def __init__(self, wheels: Path, tls: ssl.SSLContext) -> None:
        super().__init__((ADDRESS, 0), Pages)
        self.tls = tls
        self.served: list[str] = []
        self.wheels: dict[str, list[Path]] = {}
        for wheel in sorted(wheels.glob("*.whl")):
            name = re.sub(r"[-_.]+", "-", wheel.name.partition("-")[0]).lower()
            self.wheels.setdefault(name, []).append(wheel)

    @property
    def port(self) -> int:
        """Tell where it listens."""
        return int(self.server_address[1])

    def finish_request(self, request: object, client_address: object) -> None:
        """Speak TLS, in the thread of the connection."""
        with suppress(OSError), self.tls.wrap_socket(request, server_side=True) as secured:  # type: ignore[arg-type]
            super().finish_request(secured, client_address)


class Pages(BaseHTTPRequestHandler):
    """The pages of the mirror."""

    server: Mirror
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the page of a project, or with a wheel."""
        kind, _, name = self.path.strip("/").partition("/")
        if kind == "simple" and name in self.server.wheels:
            links = map(self.link, self.server.wheels[name])
            self.answer("text/html", "".join(links).encode())
            return
        for wheel in (each for group in self.server.wheels.values() for each in group):
            if kind == "files" and wheel.name == name:
                if self.command == "GET":
                    self.server.served.append(name)
                self.answer("application/octet-stream", wheel.read_bytes())
                return
        self.answer("text/plain", b"not here", status=404)

    do_HEAD = do_GET

    @staticmethod
    def link(wheel: Path) -> str:
        """Write the line of a wheel."""
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        return f'<a href="/files/{wheel.name}#sha256={digest}">{wheel.name}</a>\n'

    def answer(self, media_type: str, content: bytes, status: int = 200) -> None:
        """Send an answer."""
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing on the terminal."""


class Proxy(socketserver.ThreadingTCPServer):
    """An HTTP proxy that connects every host to the mirror, and keeps what it was asked for."""

    daemon_threads = True

    def __init__(self, mirror: Mirror) -> None:
        super().__init__((ADDRESS, 0), Tunnel)
        self.mirror = mirror
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """Tell where it listens."""
        return f"http://{ADDRESS}:{self.server_address[1]}"


class Tunnel(socketserver.StreamRequestHandler):
    """A connection that a client made to the proxy."""

    server: Proxy

    def handle(self) -> None:
        """Connect, and pass bytes on in both directions."""
        line = self.rfile.readline().decode().rstrip()
        if not line:  # who tries several addresses at once leaves those that were slower
            return
        self.server.asked.append(line)
        while self.rfile.readline().strip():
            pass
        with socket.create_connection((ADDRESS, self.server.mirror.port)) as there:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pass_on, args=(there, self.request), daemon=True)
            back.start()
            pass_on(self.request, there)
            back.join()


def pass_on(here: socket.socket, there: socket.socket) -> None:
    """Pass bytes on until there are none, and say so."""
    with suppress(OSError), here.makefile("rb", 0) as read, there.makefile("wb", 0) as written:
        shutil.copyfileobj(read, written)
    with suppress(OSError):
        there.shutdown(socket.SHUT_WR)


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    """Serve while a test runs."""
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def tls_of(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """Make a server's TLS settings."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    return context
