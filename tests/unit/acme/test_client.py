# SPDX-License-Identifier: Apache-2.0
"""What is said of an ACME server that does not do what it should, in one line."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from buildset_registry.acme.authority import Authority, OrderFailed
from buildset_registry.acme.client import AcmeClient

from tests.ports import free_port

DETAIL = "too many certificates (5) already issued for this exact set of names"
LIMITED = json.dumps({"type": "urn:ietf:params:acme:error:rateLimited", "detail": DETAIL})
REFUSED = json.dumps({"type": "urn:ietf:params:acme:error:unauthorized", "detail": "Not\nyou"})


class Handler(BaseHTTPRequestHandler):
    """Answers the directory, nonces, and everything else as the test says."""

    server: Any

    def log_message(self, *_words: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._send(200, "", {"Replay-Nonce": "bm9uY2U"})

    def do_GET(self) -> None:
        if self.server.rest["path"] == "directory":
            self._rest()
            return
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        names = ("newNonce", "newAccount", "newOrder")
        self._send(200, json.dumps({name: f"{url}/{name}" for name in names} | {"meta": {}}))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._rest()

    def _rest(self) -> None:
        rest = self.server.rest
        if rest["status"] is None:
            self.server.ended.wait(20)
            return
        self._send(rest["status"], rest["body"], rest.get("headers", {}))

    def _send(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())


@contextmanager
def answering(**rest: Any) -> Iterator[str]:
    """Serve a directory whose other answers are these; yields its URL."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.rest, server.ended = {"path": "", "headers": {}, **rest}, threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/directory"
    finally:
        server.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def refusal(directory: str, seconds: float = 20) -> OrderFailed:
    """Return how an order fails."""
    client = AcmeClient(Authority(directory=directory), answer_seconds=seconds)
    with pytest.raises(OrderFailed) as caught:
        client.begin(None, ("registry.example.com",))
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ({"status": 429, "body": LIMITED}, ("refuses", DETAIL, "(rateLimited)")),
        ({"status": 403, "body": REFUSED}, ("refuses: Not you (unauthorized)",)),
        ({"status": 502, "body": "<html>"}, ("status 502", "nothing that ACME knows")),
        ({"status": 200, "body": "{}"}, ("does not answer as an ACME server",)),
        ({"status": 201, "body": "{}"}, ("does not answer as an ACME server",)),
        ({"path": "directory", "status": 200, "body": "<html>"}, ("acme.directory",)),
        ({"path": "directory", "status": 200, "body": "[]"}, ("acme.directory",)),
        ({"path": "directory", "status": 404, "body": ""}, ("status 404",)),
        ({"path": "directory", "status": 200, "body": "{}"}, ("acme.directory",)),
    ],
)
def test_each_answer_that_is_none_is_one_line(rest: dict[str, Any], words: tuple[str, ...]) -> None:
    """It names the server, and what it said."""
    with answering(**rest) as directory:
        told = str(refusal(directory))
    assert all(word in told for word in words), told
    assert "127.0.0.1:" in told


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("120", 120), ("Fri, 31 Dec 2100 23:59:59 GMT", 1e9), ("soon", None), (None, None)],
)
def test_the_pause_that_is_asked_for_is_known(header: str | None, seconds: float | None) -> None:
    """In seconds, or as a date."""
    headers = {"Retry-After": header} if header else {}
    with answering(status=429, body=LIMITED, headers=headers) as directory:
        pause = refusal(directory).retry_after
    assert (pause is None) == (seconds is None)
    assert pause is None or seconds is None or pause >= seconds


@pytest.mark.parametrize("account", [b"", b"{", b"[]", b"{}", b'{"key": {}, "uri": "u"}'])
def test_an_account_that_cannot_be_read_is_made_anew(account: bytes) -> None:
    """It is not the server that is to blame, and no order would succeed any more."""
    with answering(status=403, body=REFUSED) as directory:
        client = AcmeClient(Authority(directory=directory))
        with pytest.raises(OrderFailed, match="refuses: Not you"):
            client.begin(account, ("registry.example.com",))


def test_a_server_that_does_not_answer_is_left() -> None:
    """After some seconds."""
    with answering(status=None, body="") as directory:
        assert "does not answer within 0.2 s" in str(refusal(directory, 0.2))


def test_a_server_that_is_not_there_is_named() -> None:
    """By its host and port, without a login that its URL may have."""
    port = free_port()
    told = str(refusal(f"http://user:secret@127.0.0.1:{port}/directory"))
    assert told == f"cannot connect to 127.0.0.1:{port} (Connection refused)"
    told = str(refusal("http://acme.invalid/directory"))
    assert told == "acme.invalid cannot be resolved"
