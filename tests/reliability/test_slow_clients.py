# SPDX-License-Identifier: Apache-2.0
"""Clients that take their time, by the hundred: everybody else is served all the same."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

from tests.reliability.server import MIB, Client, Server, digest_of, manifest

#: Clients of each kind.
MANY = 100
BLOB = os.urandom(4 * MIB)


def without_a_word(server: Server) -> socket.socket:
    """Connect, and do not even begin with TLS."""
    return socket.create_connection(("127.0.0.1", server.pull_port), timeout=20)


def encrypted(server: Server) -> ssl.SSLSocket:
    return server.context.wrap_socket(without_a_word(server), server_hostname="127.0.0.1")


def in_the_head(server: Server) -> socket.socket:
    """Send a part of a request's head."""
    connection = encrypted(server)
    connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX-")
    return connection


def in_the_body(server: Server) -> socket.socket:
    """Ask for a token by a body that does not come."""
    connection = encrypted(server)
    head = b"POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    connection.sendall(head + b"Content-Type: application/x-www-form-urlencoded\r\n\r\ng")
    return connection


def in_the_answer(server: Server) -> socket.socket:
    """Ask for a blob, and do not read it."""
    connection = encrypted(server)
    connection.sendall(
        f"GET /v2/app/blobs/{digest_of(BLOB)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    )
    return connection


KINDS: list[Callable[[Server], socket.socket]] = [
    without_a_word,
    in_the_head,
    in_the_body,
    in_the_answer,
]


@contextlib.contextmanager
def trickling(connections: list[socket.socket], seconds: float) -> Iterator[None]:
    """Send a byte on each connection every so many seconds; those that were cut are left out."""
    done = threading.Event()

    def send() -> None:
        while not done.wait(seconds):
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.send(b"a")

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_slow_clients_stop_nobody(server: Server) -> None:
    """Others push, pull and ask meanwhile, each request well below the time the slow ones take."""
    assert server.client().push_blob("app", BLOB).status == 201
    connections = [kind(server) for _ in range(MANY) for kind in KINDS]
    worst = 0.0
    with trickling(connections, 0.5):
        for number in range(20):
            began = time.monotonic()
            push_and_pull(server, b'{"number": %d}' % number)
            worst = max(worst, time.monotonic() - began)
    for connection in connections:
        connection.close()
    print(f"{len(connections)} slow clients; an image pushed and pulled in {worst:.2f} s")
    assert worst < 10
    assert "Traceback" not in server.log.read_text()


def push_and_pull(server: Server, config: bytes) -> None:
    """Push an image and pull it by new connections."""
    raw = manifest(config)
    with contextlib.closing(Client(server.push_port, server.context)) as client:
        assert client.push_blob("app", config).status == 201
        assert client.push_manifest("app", "v1", raw).status == 201
    with contextlib.closing(Client(server.pull_port, server.context)) as client:
        assert client.ask("GET", "/v2/app/manifests/v1").content == raw
        assert client.ask("GET", f"/v2/app/blobs/{digest_of(BLOB)}").content == BLOB


def test_a_slow_body_is_given_up(serve: Callable[..., Server]) -> None:
    """By 408, after ``limits.body_seconds`` without a byte."""
    server = serve(limits={"body_seconds": 1})
    with contextlib.closing(in_the_body(server)) as connection:
        connection.settimeout(30)
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
