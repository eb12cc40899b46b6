# SPDX-License-Identifier: Apache-2.0
"""Clients that ask for something large and read nothing, while another one pushes and pulls."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.reliability.server import MIB, Client, Server, digest_of, manifest

#: Larger than what sockets and the server hold of an answer.
BLOB = os.urandom(24 * MIB)
#: The address of those that do not read; others are at 127.0.0.1.
CROWD = "127.0.0.2"
#: Files that a server has open of which nobody wants anything.
FEW = 100
_SMALL = 4096
_INDEX = "application/vnd.oci.image.index.v1+json"
_AT_ONCE = 8


@dataclass
class Outcome:
    """What another client and the server had to bear."""

    clients: int
    seconds: list[float] = field(default_factory=list)
    """The time of each image that was pushed and pulled meanwhile."""

    before: float = 0.0
    peak: float = 0.0
    after: float = 0.0
    """Memory in MiB, the last when those that did not read have had their time."""

    open_at_end: int = 0

    @property
    def figures(self) -> str:
        return (
            f"{self.clients} clients that do not read: {len(self.seconds)} images of another one, "
            f"the slowest in {max(self.seconds):.2f} s; memory {self.before:.0f} MiB before, "
            f"{self.peak:.0f} at most, {self.after:.0f} afterwards; {self.open_at_end} still open"
        )


def push_blob(server: Server) -> str:
    """Push the blob, and return its path."""
    assert server.client().push_blob("app", BLOB).status == 201
    return f"/v2/app/blobs/{digest_of(BLOB)}"


def push_manifest(server: Server) -> str:
    """Push a manifest that is nearly as large as one may be, and return its path."""
    tree = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": []}
    raw = json.dumps({**tree, "annotations": {"large": "x" * (4 * MIB - 1024)}}).encode()
    path = "/v2/app/manifests/large"
    assert server.client().ask("PUT", path, raw, {"Content-Type": _INDEX}).status == 201
    return path


def run(
    serve: Callable[..., Server],
    clients: int,
    seconds: int,
    push: Callable[[Server], str] = push_blob,
) -> Outcome:
    """Let clients come and not read, until they are ended: after so many seconds each."""
    _allow_files(clients)
    server = serve(limits={"answer_seconds": seconds})
    path = push(server)
    outcome = Outcome(clients, before=server.memory())
    with _crowd(server, clients, path) as coming:
        until = time.monotonic() + 10 * seconds
        while coming.is_set() or (_open(server) > FEW and time.monotonic() < until):
            began = time.monotonic()
            _push_and_pull(server, len(outcome.seconds))
            outcome.seconds.append(time.monotonic() - began)
            outcome.peak = max(outcome.peak, server.memory())
            if coming.is_set():
                until = time.monotonic() + 4 * seconds
            time.sleep(0.1)
        outcome.open_at_end = _open(server)
        outcome.after = server.memory()
    assert "Traceback" not in server.log.read_text()
    return outcome


def _open(server: Server) -> int:
    return sum(1 for _one in Path(f"/proc/{server.pid}/fd").iterdir())


@contextlib.contextmanager
def _crowd(server: Server, clients: int, path: str) -> Iterator[threading.Event]:
    """Have clients come that do not read; the event is set as long as they do."""
    connections: list[socket.socket] = []
    coming = threading.Event()
    coming.set()

    def come(_number: int) -> None:
        with contextlib.suppress(OSError):
            connections.append(_stalled(server, path))

    def all_come() -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(come, range(clients)))
        coming.clear()

    thread = threading.Thread(target=all_come)
    thread.start()
    try:
        yield coming
    finally:
        thread.join()
        for connection in connections:
            connection.close()


def _stalled(server: Server, path: str) -> ssl.SSLSocket:
    """Ask for something, and read nothing of it."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
    plain.settimeout(60)
    plain.bind((CROWD, 0))
    plain.connect(("127.0.0.1", server.pull_port))
    secure = server.context.wrap_socket(plain, server_hostname="127.0.0.1")
    secure.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return secure


def _push_and_pull(server: Server, number: int) -> None:
    """Push an image and pull it, by new connections."""
    config = b'{"number": %d}' % number + b" " * MIB
    raw = manifest(config)
    with contextlib.closing(Client(server.push_port, server.context)) as client:
        assert client.push_blob("app", config).status == 201
        assert client.push_manifest("app", "v1", raw).status == 201
    with contextlib.closing(Client(server.pull_port, server.context)) as client:
        assert client.ask("GET", "/v2/app/manifests/v1").content == raw
        assert client.ask("GET", f"/v2/app/blobs/{digest_of(config)}").content == config


def _allow_files(clients: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = clients + 1000
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
