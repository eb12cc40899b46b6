# SPDX-License-Identifier: Apache-2.0
"""What a copy waits for: as little as can be, since every wait is a round trip."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from buildset_registry.transfer import copy as copying
from buildset_registry.transfer.http_client import PIECE, HttpClient
from buildset_registry.transfer.session import RegistryLogin

from tests.unit.transfer.conftest import Copy
from tests.unit.transfer.fake_registry import FakeRegistry, Handler, digest_of
from tests.unit.transfer.test_connections import head_of, listening

LOGIN = RegistryLogin("user", "pass")
#: So many of anything.
ALL = 1000


@pytest.fixture
def layer(source: FakeRegistry) -> bytes:
    """A layer that is sent as a stream, of an image that is there."""
    content = os.urandom(3 << 20)
    source.add_image("app", "v1", layers=(content,))
    return content


def test_a_login_is_done_before_the_first_upload(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, layer: bytes
) -> None:
    """Of a registry that shows its content to everybody: no upload has to be refused first."""

    def closed(handler: Handler) -> bool:
        if handler.path != "/v2/" and handler.command in ("GET", "HEAD"):
            return False
        if handler.headers.get("Authorization") == LOGIN.header:
            return handler.answer(200) if handler.path == "/v2/" else False
        handler.read()
        return handler.answer(401, {"WWW-Authenticate": 'Basic realm="fake"'})

    for method in ("GET", "POST", "PATCH", "PUT"):
        destination.fail(method, "/v2/", closed, times=ALL)
    report = copy(source.image("app:v1"), destination.image("app:v1"), login=LOGIN)
    assert report.failed == []
    assert len(destination.asked("POST")) == 2
    assert len(destination.asked("GET", "^/v2/$")) == 2


def test_a_stream_takes_the_connection_of_what_was_asked_before(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, layer: bytes
) -> None:
    """It is open, and knows how much the way takes."""
    asked: set[object] = set()
    streamed: set[object] = set()

    def note(handler: Handler) -> bool:
        (streamed if handler.command == "PATCH" else asked).add(handler.client_address)
        return False

    for method in ("HEAD", "POST", "PATCH"):
        destination.fail(method, "/v2/", note, times=ALL)
    assert copy(source.image("app:v1"), destination.image("app:v1")).failed == []
    assert streamed
    assert streamed <= asked


def test_a_stream_on_a_connection_that_is_gone_goes_on(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, layer: bytes
) -> None:
    """The server may close it at any moment: the upload is asked how far it is."""

    def leave(handler: Handler) -> bool:
        handler.close_connection = True
        return False

    destination.fail("POST", "uploads", leave, times=ALL)
    assert copy(source.image("app:v1"), destination.image("app:v1")).failed == []
    assert destination.blobs["app"][digest_of(layer)] == layer


def test_the_source_is_asked_while_the_upload_begins(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, layer: bytes
) -> None:
    """Neither waits for the other."""
    reached = threading.Event()

    def reach(_handler: Handler) -> bool:
        reached.set()
        return False

    def wait(_handler: Handler) -> bool:
        assert reached.wait(20)
        return False

    source.fail("GET", f"blobs/{digest_of(layer)}", reach)
    destination.fail("POST", "uploads", wait, times=ALL)
    assert copy(source.image("app:v1"), destination.image("app:v1")).failed == []
    assert len(source.asked("GET", f"blobs/{digest_of(layer)}")) == 1


@pytest.fixture
def client() -> Iterator[HttpClient]:
    """A client that knows no proxy."""
    made = HttpClient(environment={})
    yield made
    made.close()


def test_the_first_bytes_go_on_before_many_have_come(client: HttpClient) -> None:
    """Or a long way would have to be found out twice, one end after the other."""
    content, taken = os.urandom(4 * PIECE + 1), threading.Event()

    def serve(connection: socket.socket) -> None:
        head_of(connection)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        connection.sendall(head + content[:20_000])
        assert taken.wait(20)
        connection.sendall(content[20_000:])

    with listening(serve) as port:
        received = bytearray()
        for piece in client.send("GET", f"http://127.0.0.1:{port}/", {}).pieces():
            received += piece
            taken.set()
        assert bytes(received) == content


def test_connections_that_are_opened_ahead_are_as_many_as_wanted(client: HttpClient) -> None:
    """However often that is said; where nobody listens, whoever asks is told."""
    accepted = []

    def serve(connection: socket.socket) -> None:
        accepted.append(connection)
        while head_of(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with listening(serve) as port:
        url = f"http://127.0.0.1:{port}/"
        for _turn in range(9):
            client.open_ahead(url, 3)
        for _turn in range(9):
            client.send("GET", url, {}).discard()
        client.close()
    assert len(accepted) <= 3
    HttpClient(environment={}).open_ahead(url, 3)


@pytest.mark.parametrize(
    ("processors", "near", "most"), [(2, True, 2), (8, True, 4), (2, False, 4)]
)
def test_large_blobs_share_the_processors_of_one_machine(
    source: FakeRegistry,
    destination: FakeRegistry,
    copy: Copy,
    monkeypatch: pytest.MonkeyPatch,
    processors: int,
    near: bool,
    most: int,
) -> None:
    """Where both ends are on it, no more of them are on their way than it has processors."""
    monkeypatch.setattr(copying, "LARGE", 1 << 20)
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    if not near:
        monkeypatch.setattr(HttpClient, "here", lambda _client, _url: False)
    source.add_image("app", "v1", layers=tuple(os.urandom(3 << 20) for _layer in range(6)))
    under_way: list[str] = []
    counts = []
    crowded = threading.Event()

    def begun(handler: Handler) -> bool:
        under_way.append(handler.path)
        counts.append(len(under_way))
        if len(under_way) >= most:
            crowded.set()
        assert crowded.wait(60)
        time.sleep(0.1)  # for one too many to come
        return False

    def ended(handler: Handler) -> bool:
        under_way.remove(handler.path.partition("?")[0])
        return False

    destination.fail("PATCH", "uploads", begun, times=100)
    destination.fail("PUT", "uploads/.*digest", ended, times=100)
    monkeypatch.setattr(destination, "verifies", True)
    small = [one for one in source.blobs["app"].values() if len(one) < 1 << 20]
    destination.blobs["app"] = {digest_of(one): one for one in small}
    assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert max(counts) == most
