# SPDX-License-Identifier: Apache-2.0
"""A registry that takes and forgets a canary, by TLS; and programs that stand for clients."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme
from buildset_clients.canary import run

from tests.use.places import Place, make_setup


class Receiving(ThreadingHTTPServer):
    """A registry that holds all in memory, and the last manifest in a file for the clients."""

    daemon_threads = True

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.manifest = folder / "manifest"
        self.held: set[str] = set()
        self.taken: list[str] = []
        self.told: list[tuple[str, str]] = []
        self.refusal = 0
        port = self.server_address[1]
        self.facts: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": port,
            "push_host": "127.0.0.1",
            "push_port": port,
            "cert": authority.cert_pem.bytes().decode(),
        }

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about handshakes that fail: clients with a wrong certificate are tried."""


class _Handler(BaseHTTPRequestHandler):
    server: Receiving
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Begin an upload; what is to be mounted is taken from the other repository."""
        path, _separator, query = self.path.partition("?mount=")
        if query:
            digest = query.partition("&")[0]
            self._hold(f"{path.removesuffix('uploads/')}{digest}")
            self._answer(201)
        else:
            self._answer(202, f"{path}1?state=x")

    def do_PUT(self) -> None:
        """Take a blob or a manifest."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        path, _separator, digest = self.path.partition("uploads/1?state=x&digest=")
        if not digest:
            self.server.manifest.write_bytes(content)
        self._hold(path + digest)
        self._answer(201)

    def do_HEAD(self) -> None:
        """Note who asks for what is not there."""
        self.server.told.append((self.path, self.headers["User-Agent"]))
        self._answer(404)

    def do_DELETE(self) -> None:
        """Forget a blob, or all manifests of a repository: it has one."""
        folder, _separator, _name = self.path.rpartition("/")
        gone = {one for one in self.server.held if one == self.path}
        if folder.endswith("/manifests"):
            gone = {one for one in self.server.held if one.startswith(folder)}
        self.server.held -= gone
        self._answer(202 if gone else 404)

    def _hold(self, what: str) -> None:
        self.server.held.add(what)
        self.server.taken.append(what)

    def _answer(self, status: int, location: str = "") -> None:
        self.send_response(self.server.refusal or status)
        self.send_header("Content-Length", "0")
        if location:
            self.send_header("Location", location)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def receiving(folder: Path, authority: trustme.CA) -> Iterator[Receiving]:
    """Serve until the end of the block."""
    with Receiving(folder, authority) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def prove(place: Place, client: str, **facts: Any) -> list[str]:
    """Try the clients of a node that are of one kind."""
    return run.prove(place.node, make_setup(**facts), [client])
