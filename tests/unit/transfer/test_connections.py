# SPDX-License-Identifier: Apache-2.0
"""Connections reach what they are meant to: by TLS, by IPv6, by a proxy, by another address."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from buildset_registry.transfer import connections
from buildset_registry.transfer.connections import RegistryConnection
from buildset_registry.transfer.errors import TransferError
from buildset_registry.transfer.http_client import HttpClient

Serve = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def listening(serve: Serve, host: str = "127.0.0.1") -> Iterator[int]:
    """Have each connection served in a thread; yields the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        threads: list[threading.Thread] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _address = server.accept()
                    threads.append(threading.Thread(target=run, args=(connection,)))
                    threads[-1].start()

        def run(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                serve(connection)

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def head_of(connection: socket.socket) -> bytes:
    """Return a request up to its body."""
    received = b""
    while b"\r\n\r\n" not in received and (piece := connection.recv(1)):
        received += piece
    return received


@pytest.fixture
def client(authority: trustme.CA) -> Iterator[HttpClient]:
    """A client that trusts the tests' authority, and knows another address of a name."""
    pem = authority.cert_pem.bytes().decode()
    made = HttpClient(pem, {"registry.example": "127.0.0.1"}, {})
    yield made
    made.close()


def by_tls(tls: ssl.SSLContext, serve: Serve) -> Serve:
    """Speak TLS first."""

    def run(connection: socket.socket) -> None:
        with tls.wrap_socket(connection, server_side=True) as wrapped:
            serve(wrapped)

    return run


def answer_each(connection: socket.socket) -> None:
    """Answer as long as the client asks."""
    while head_of(connection):
        connection.sendall(OK)


def test_a_host_may_be_reached_by_another_address(client: HttpClient, tls: ssl.SSLContext) -> None:
    """The certificate is still the name's: the executor may not resolve it."""
    with listening(by_tls(tls, answer_each)) as port:
        url = f"https://registry.example:{port}/v2/"
        assert client.send("GET", url, {}).read(10) == b"ok"
        assert client.send("GET", url, {}).read(10) == b"ok"
        client.close()


def test_a_certificate_that_is_not_trusted_is_told(tls: ssl.SSLContext) -> None:
    """With what to do."""
    with listening(by_tls(tls, answer_each)) as port, pytest.raises(TransferError) as caught:
        HttpClient(environment={}).send("GET", f"https://127.0.0.1:{port}/", {})
    assert "its certificate is not trusted" in str(caught.value)
    assert "--dest-ca" in str(caught.value)


def test_the_systems_authorities_are_trusted_beside_one_that_is_named(
    tls: ssl.SSLContext, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are loaded where that one is not enough; what neither trusts is not trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    other = HttpClient(trustme.CA().cert_pem.bytes().decode(), environment={})
    with listening(by_tls(tls, answer_each)) as port:
        for _time in range(2):
            assert other.send("GET", f"https://127.0.0.1:{port}/", {}).read(10) == b"ok"
        other.close()
        monkeypatch.delenv("SSL_CERT_FILE")
        stranger = HttpClient(trustme.CA().cert_pem.bytes().decode(), environment={})
        with pytest.raises(TransferError, match="its certificate is not trusted"):
            stranger.send("GET", f"https://127.0.0.1:{port}/", {})


def test_a_registry_without_tls_is_told(client: HttpClient) -> None:
    """Rather than tried without."""

    def serve(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listening(serve) as port, pytest.raises(TransferError, match="speaks no TLS; write http"):
        client.send("GET", f"https://127.0.0.1:{port}/", {})


def test_an_address_of_ipv6_is_reached_and_named(client: HttpClient) -> None:
    """In brackets, with its port."""
    heads: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        heads.append(head_of(connection))
        connection.sendall(OK)

    with listening(serve, "::1") as port:
        assert client.send("GET", f"http://[::1]:{port}/v2/", {}).read(10) == b"ok"
        assert f"Host: [::1]:{port}".encode() in heads[0]
        client.close()


@pytest.mark.parametrize("host", ["registry.invalid", "[2001:db8::1]"])
def test_a_proxy_makes_a_tunnel(tls: ssl.SSLContext, authority: trustme.CA, host: str) -> None:
    """To the name, which the client need not resolve; the proxy's own login goes to it alone."""
    heads: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        heads.append(head_of(connection))
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        authority.issue_cert(host.strip("[]")).configure_cert(server)
        by_tls(server, answer)(connection)

    def answer(connection: socket.socket) -> None:
        heads.append(head_of(connection))
        connection.sendall(OK)

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with listening(serve) as port:
        environment = {"HTTPS_PROXY": f"http://user:pass%3A@127.0.0.1:{port}"}
        client = HttpClient(authority.cert_pem.bytes().decode(), environment=environment)
        assert client.send("GET", f"https://{host}:5000/v2/", {}).read(10) == b"ok"
        client.close()
    assert heads[0].startswith(f"CONNECT {host}:5000 HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNzOg==" in heads[0]
    assert b"Proxy-Authorization" not in heads[1]


def test_a_proxy_is_asked_for_the_whole_url_without_tls() -> None:
    """RFC 9112, 3.2.2."""
    heads: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        heads.append(head_of(connection))
        connection.sendall(OK)

    with listening(serve) as port:
        client = HttpClient(environment={"http_proxy": f"127.0.0.1:{port}"})
        assert client.send("GET", "http://registry.invalid/v2/", {}).read(10) == b"ok"
        client.close()
    assert heads[0].startswith(b"GET http://registry.invalid/v2/ HTTP/1.1\r\n")


def test_a_proxy_that_refuses_is_told_without_its_password() -> None:
    """And which setting names it."""

    def serve(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

    with listening(serve) as port:
        client = HttpClient(environment={"HTTPS_PROXY": f"http://u:secret@127.0.0.1:{port}"})
        with pytest.raises(TransferError, match="answers 407 to a tunnel") as caught:
            client.send("GET", "https://registry.invalid/", {})
    assert "secret" not in str(caught.value)
    assert "HTTPS_PROXY" in str(caught.value)


@pytest.mark.parametrize(("status", "passing"), [(407, False), (502, True), (503, True)])
def test_a_proxy_that_fails_for_a_moment_is_asked_again(status: int, passing: bool) -> None:
    """Who refuses is not."""

    def serve(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())

    with listening(serve) as port:
        client = HttpClient(environment={"HTTPS_PROXY": f"http://127.0.0.1:{port}"})
        with pytest.raises(TransferError) as caught:
            client.send("GET", "https://registry.invalid/", {})
    assert caught.value.transient is passing


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("proxy", "passing"), [("127.0.0.1:1", True), ("proxy.invalid:3128", False)]
)
def test_a_proxy_that_cannot_be_reached_is_named(scheme: str, proxy: str, passing: bool) -> None:
    """And not the registry behind it, nor the login."""
    client = HttpClient(environment={f"{scheme}_proxy": f"http://u:secret@{proxy}"})
    with pytest.raises(TransferError, match=f"the proxy {proxy} cannot be reached") as caught:
        client.send("GET", f"{scheme}://registry.example/", {})
    assert "secret" not in str(caught.value)
    # Where nobody answers for names, the name may have an address later.
    assert caught.value.transient is passing or "Temporary" in str(caught.value)


@pytest.mark.parametrize(("number", "passing"), [(socket.EAI_AGAIN, True), (-2, False)])
def test_names_that_have_no_address_for_a_moment_are_asked_again(
    monkeypatch: pytest.MonkeyPatch, number: int, passing: bool
) -> None:
    """EAI_AGAIN says so; EAI_NONAME does not."""

    def fail(*_words: object, **_more: object) -> None:
        raise socket.gaierror(number, "no address")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(TransferError, match="its name has no address") as caught:
        HttpClient(environment={}).send("GET", "http://registry.example/", {})
    assert caught.value.transient is passing


def test_a_server_that_is_silent_is_waited_for_once(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kept connection that it has closed is another thing."""
    asked: list[bytes] = []
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        asked.append(head_of(connection))
        connection.sendall(OK)
        asked.append(head_of(connection))
        ended.wait(60)

    with listening(serve) as port:
        url = f"http://127.0.0.1:{port}/"
        kept = [client.send("GET", url, {}) for _one in range(3)]
        for reply in kept:
            assert reply.read(10) == b"ok"
        monkeypatch.setattr(connections, "TIMEOUT", 0.3)
        with pytest.raises(TransferError, match="timed out"):
            client.send("GET", url, {})
        ended.set()
        client.close()
    assert len([one for one in asked if one]) == 4


def test_who_takes_no_connection_is_left_when_the_copy_is_stopped(client: HttpClient) -> None:
    """A host that is down does not even refuse."""
    failed: list[TransferError] = []

    def ask(port: int) -> None:
        with pytest.raises(TransferError) as caught:
            client.send("GET", f"http://127.0.0.1:{port}/", {})
        failed.append(caught.value)

    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as stack:
        port = server.getsockname()[1]
        for _waiting in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        asking = threading.Thread(target=ask, args=(port,))
        asking.start()
        time.sleep(0.1)
        client.close()
        asking.join(5)
        assert failed


def test_who_is_stopped_tries_no_other_address(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of those that were found meanwhile, nor the next one."""
    tried: list[object] = []
    real = socket.getaddrinfo

    def found(*asked: Any, **named: Any) -> Any:
        client.close()
        return real(*asked, **named) * 3

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(socket.socket, "connect", lambda _self, place: tried.append(place))
    with pytest.raises(TransferError):
        client.send("GET", "http://127.0.0.1:1/", {})
    assert tried == []


def test_an_address_of_a_kind_that_the_machine_lacks_is_passed_over(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without IPv6, to which a name with such an address is told."""
    real, made = socket.getaddrinfo, socket.socket

    def found(host: str, *asked: Any, **named: Any) -> Any:
        here = real(host, *asked, **named)
        return [(socket.AF_INET6, *one[1:]) for one in here] + here

    def make(family: int = -1, *kind: Any, **named: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return made(family, *kind, **named)

    with listening(lambda connection: connection.sendall(OK)) as port:
        monkeypatch.setattr(socket, "getaddrinfo", found)
        monkeypatch.setattr(socket, "socket", make)
        assert client.send("GET", f"http://127.0.0.1:{port}/", {}).read(10) == b"ok"


def test_the_end_of_an_upload_may_take_longer(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry on an object store copies the blob first, a proxy sends it on; whatever else is
    silent is not there."""
    monkeypatch.setattr(connections, "TIMEOUT", 0.2)
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        head_of(connection)
        time.sleep(0.5)
        connection.sendall(OK)
        head_of(connection)
        ended.wait(60)

    with listening(serve) as port:
        url = f"http://127.0.0.1:{port}/"
        for method in ("PUT", "PATCH"):
            assert client.send(method, url, {"Content-Length": "0"}).read(10) == b"ok"
        with pytest.raises(TransferError, match="timed out"):
            client.send("GET", url, {})
        ended.set()
        client.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_body_in_memory_may_take_long_on_its_way(
    tls: ssl.SSLContext, client: HttpClient, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Two dozen of them share a way that may be slow: as long as it moves, it is waited for."""
    monkeypatch.setattr(connections, "TIMEOUT", 0.3)
    opened = RegistryConnection._open

    def with_little_room(connection: RegistryConnection) -> socket.socket:
        sock = opened(connection)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        return sock

    monkeypatch.setattr(RegistryConnection, "_open", with_little_room)
    body = bytes(1 << 19)

    def serve(connection: socket.socket) -> None:
        head_of(connection)
        left = len(body)
        while left and (piece := connection.recv(min(left, 1 << 14))):
            left -= len(piece)
            time.sleep(0.016)
        connection.sendall(OK)

    with listening(by_tls(tls, serve) if scheme == "https" else serve) as port:
        url = f"{scheme}://127.0.0.1:{port}/"
        assert client.send("PUT", url, {}, body).read(10) == b"ok"
        client.close()


def test_a_proxy_that_wants_tls_is_told() -> None:
    """It cannot be spoken to."""
    client = HttpClient(environment={"HTTPS_PROXY": "https://u:secret@proxy.example"})
    with pytest.raises(TransferError, match="is spoken to by TLS") as caught:
        client.send("GET", "https://registry.invalid/", {})
    assert "secret" not in str(caught.value)


def test_no_proxy_is_honoured(client: HttpClient) -> None:
    """For the hosts that it names."""
    with listening(answer_each) as port:
        environment = {"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.0/8"}
        made = HttpClient(environment=environment)
        assert made.send("GET", f"http://127.0.0.1:{port}/", {}).read(10) == b"ok"
        made.close()


def test_a_kept_connection_that_was_closed_is_no_failure(client: HttpClient) -> None:
    """Servers close what is idle."""
    served: list[bytes] = []

    def once(connection: socket.socket) -> None:
        served.append(head_of(connection))
        connection.sendall(OK)

    with listening(once) as port:
        for _time in range(3):
            assert client.send("GET", f"http://127.0.0.1:{port}/", {}).read(10) == b"ok"
    assert len(served) == 3


@pytest.mark.parametrize("secure", [True, False])
def test_an_answer_that_comes_early_ends_the_request(
    client: HttpClient, tls: ssl.SSLContext, secure: bool
) -> None:
    """The rest of the body is not sent; what TLS itself sends is no answer."""
    sent: list[int] = []
    refused = threading.Event()

    def refuse(connection: socket.socket) -> None:
        head_of(connection)
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        refused.set()
        while connection.recv(1 << 16):
            pass

    def body() -> Iterator[bytes]:
        for number in range(1000):
            if number == 2:
                assert refused.wait(60)
            elif number > 2:
                time.sleep(0.05)  # a busy machine takes a moment from one socket to the other
            sent.append(number)
            yield b"x" * 100_000

    with listening(by_tls(tls, refuse) if secure else refuse) as port:
        url = f"{'https' if secure else 'http'}://127.0.0.1:{port}/"
        reply = client.send("PATCH", url, {"Content-Length": "100000000"}, body())
        assert (reply.status, reply.read(10)) == (413, b"big")
        assert len(sent) < 10


def test_a_ca_that_is_none_is_told() -> None:
    """In one line."""
    with pytest.raises(TransferError, match="no certificate in PEM"):
        HttpClient("nonsense", environment={})


def test_an_answer_that_ends_early_is_transient(client: HttpClient, tmp_path: Path) -> None:
    """Another try may succeed."""

    def serve(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    with listening(serve) as port:
        reply = client.send("GET", f"http://127.0.0.1:{port}/", {})
        with pytest.raises(TransferError) as caught:
            list(reply.pieces())
    assert caught.value.transient


#: More than TLS has in a record, than is read or sent at once, and no multiple of either.
MUCH = bytes(range(251)) * 1500


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_bodies_pass_tls_both_ways_as_they_are(
    client: HttpClient, tls: ssl.SSLContext, version: ssl.TLSVersion, kept: bool
) -> None:
    """In requests and answers, also of a server that closes after each."""
    tls.maximum_version = version
    received: list[bytes] = []
    ending = b"" if kept else b"Connection: close\r\n"

    def echo(connection: socket.socket) -> None:
        while head_of(connection):
            body = b""
            while len(body) < len(MUCH):
                body += connection.recv(1 << 16)
            received.append(body)
            head = b"HTTP/1.1 200 OK\r\n" + ending + b"Content-Length: %d\r\n\r\n" % len(MUCH)
            connection.sendall(head + MUCH)
            if not kept:
                return

    def body() -> Iterator[memoryview]:
        for start in range(0, len(MUCH), 200_000):
            yield memoryview(MUCH)[start : start + 200_000]

    with listening(by_tls(tls, echo)) as port:
        url = f"https://127.0.0.1:{port}/"
        for _time in range(2):
            reply = client.send("PATCH", url, {"Content-Length": str(len(MUCH))}, body())
            assert b"".join(bytes(piece) for piece in reply.pieces()) == MUCH
        client.close()
    assert received == [MUCH, MUCH]


def test_an_answer_by_tls_that_ends_early_is_transient(
    client: HttpClient, tls: ssl.SSLContext
) -> None:
    """Whether or not the server says by TLS that it ends."""

    def serve(connection: socket.socket) -> None:
        if head_of(connection).startswith(b"GET /polite"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + MUCH)
            assert isinstance(connection, ssl.SSLSocket)
            connection.unwrap()
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + MUCH)

    for path in ("polite", "rude"):
        with listening(by_tls(tls, serve)) as port:
            reply = client.send("GET", f"https://127.0.0.1:{port}/{path}", {})
            with pytest.raises(TransferError) as caught:
                list(reply.pieces())
        assert caught.value.transient, path


def test_who_shakes_no_hands_is_left_in_time(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may accept and say nothing."""
    monkeypatch.setattr(connections, "TIMEOUT", 0.1)

    def say_nothing(connection: socket.socket) -> None:
        head_of(connection)

    with (
        listening(say_nothing) as port,
        pytest.raises(TransferError, match="timed out") as caught,
    ):
        client.send("GET", f"https://127.0.0.1:{port}/", {})
    assert caught.value.transient
