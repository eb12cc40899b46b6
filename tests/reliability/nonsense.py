# SPDX-License-Identifier: Apache-2.0
"""Requests that no client of good will sends, to every route, by raw sockets over TLS."""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from buildset_registry.http.routes import ROUTES, Route

from tests.reliability.server import BROKEN, LOGIN, Server, digest_of, files_below, manifest

THREADS = 4
DIGEST = digest_of(b"{}")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
VALUES = {
    "name": (
        *("app", "org/app", "quay.io/org/app", "library/app", "a/b/c/d/e", "localhost/a"),
        *(
            "..",
            "../../../etc",
            "a/../../b",
            "%2e%2e/%2e%2e",
            "..%2f..%2fetc%2fpasswd",
            "a//b",
            "/",
        ),
        *("A", "-a", "a-", "a__b", "a___b", "%00", "a%00b", "a b", "é", "%ff%fe", "_uploads"),
        *("a" * 255, "a" * 256, "a/" * 200 + "a", "blobs", "a/manifests/b", "v2", "%", "%zz"),
    ),
    "digest": (
        *(DIGEST, "sha256:" + "0" * 64, "sha512:" + "a" * 128, "sha256:", "md5:" + "0" * 32),
        *("sha256:" + "A" * 64, "sha256:..", "sha256:%2e%2e%2f", DIGEST + "0", "x", "%00", ":"),
    ),
    "reference": (
        *(
            "latest",
            "v1",
            DIGEST,
            "sha512:" + "b" * 128,
            "a" * 128,
            "a" * 129,
            ".a",
            "-",
            "..",
            "%00",
        ),
        *("a:b:c", "%2e%2e", "tag%0aX", "current", "_x"),
    ),
    "upload": (
        *("00000000-0000-0000-0000-000000000000", "..", "x", "%2e%2e%2f", "%00", "A" * 36, "data"),
    ),
}
QUERY = {
    "n": ("0", "1", "-1", "1e9", "99999999999999999999", "", "%00", "٣"),
    "last": ("", "app", "zzz", "%00", "../.."),
    "digest": VALUES["digest"],
    "mount": VALUES["digest"],
    "from": VALUES["name"],
    "tag": VALUES["reference"],
    "artifactType": ("", "a/b", "%00"),
    "ns": ("docker.io", "quay.io", "example.com:5000", "..", "a b", "", "%00", "[::1]:5000"),
    "scope": ("repository:app:pull,push", "repository:..:*", "registry:catalog:*", ":::", "%00"),
    "service": ("buildset-registry", ""),
    "offline_token": ("true", "x"),
}
HEADERS = {
    "Range": (
        "bytes=0-",
        "bytes=5-2",
        "bytes=-0",
        "bytes=0-0,1-1,2-2",
        "lines=1-2",
        "bytes=" + "0-1," * 500,
    ),
    "Content-Range": ("0-0", "5-9", "9-5", "bytes 0-0/1", "x", "0-99999999999999999999"),
    "Content-Type": (
        "",
        "application/json",
        "a",
        "application/vnd.oci.image.index.v1+json",
        "\xff",
    ),
    "If-None-Match": ("*", f'"{DIGEST}"', 'W/"x"', '"', "a, b"),
    "If-Match": ("*", f'"{DIGEST}"', "x"),
    "If-Range": (f'"{DIGEST}"', "Tue, 24 Nov 2026 00:00:00 GMT", "x"),
    "Authorization": ("", "Basic", "Basic !!!", "Bearer", "Bearer a.b.c", "Digest x", "Basic Og=="),
    "X-Forwarded-Host": ("a", "a,b", "a/b\x7f", "[::1"),
    "X-Forwarded-Proto": ("https", "javascript", ""),
    "X-Forwarded-Prefix": ("/a", "//", "a\x01"),
    "Forwarded": ("host=a;proto=https", ";;;", 'host="'),
    "Expect": ("100-continue", "x"),
    "Accept": ("*/*", "", "\xff"),
}
MANIFEST = manifest(b"{}", b"{}")
BODIES = (
    *(b"", b"{}", b"[]", b"null", b"\x00" * 100, b"{" * 5000, b'"' * 100, MANIFEST, MANIFEST[:-9]),
    json.dumps({"schemaVersion": 1}).encode(),
    json.dumps({"schemaVersion": 2, "layers": 7, "config": []}).encode(),
    json.dumps({"schemaVersion": 2, "manifests": [{"digest": ".."}]}).encode(),
    b"grant_type=password&username=a&password=b&scope=repository:app:pull",
    b"grant_type=refresh_token&refresh_token=x&service=y",
    b"x" * 70_000,
)


@dataclass
class Outcome:
    """What came back, by status (0: the connection was closed without an answer)."""

    statuses: Counter[int]
    memory_before: float
    memory_after: float

    @property
    def figures(self) -> str:
        told = ", ".join(f"{status} x {count:,}" for status, count in sorted(self.statuses.items()))
        return (
            f"{self.statuses.total():,} bad requests: {told}; "
            f"memory {self.memory_before:.0f} MiB before, {self.memory_after:.0f} MiB after"
        )


def make(chance: random.Random) -> tuple[str, bytes]:
    """Return the method of a request and its bytes."""
    route: Route = chance.choice(ROUTES)
    path = route.path
    for key, values in VALUES.items():
        path = path.replace("{" + key + "}", chance.choice(values))
    keys = chance.sample(sorted(QUERY), chance.choice((0, 0, 1, 2)))
    query = "&".join(f"{key}={chance.choice(QUERY[key])}" for key in keys)
    target = f"{path}?{query}" if query else path
    method = route.method if chance.random() < 0.8 else chance.choice(METHODS)
    headers = dict(LOGIN) if chance.random() < 0.7 else {}
    for key in chance.sample(sorted(HEADERS), chance.choice((0, 1, 2))):
        headers[key] = chance.choice(HEADERS[key])
    body = chance.choice(BODIES) if method not in ("GET", "HEAD") else b""
    lines = [f"{method} {target.replace(' ', '%20')} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{key}: {value}" for key, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    return method, "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + body


class Sender:
    """One connection, made anew where the registry closed it."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._port = port
        self._context = context
        self._socket: ssl.SSLSocket | None = None

    def send(self, method: str, raw: bytes) -> int:
        """Send a request and return the status, or 0 where the connection was closed."""
        try:
            if self._socket is None:
                plain = socket.create_connection(("127.0.0.1", self._port), 60)
                self._socket = self._context.wrap_socket(plain, server_hostname="127.0.0.1")
            self._socket.sendall(raw)
            answer = http.client.HTTPResponse(self._socket, method=method)
            answer.begin()
            answer.read()
            if answer.will_close:
                self.close()
            return answer.status
        except BROKEN:
            self.close()
            return 0

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def run(serve: Callable[..., Server], count: int, seed: int) -> Outcome:
    """Send ``count`` requests and check what they left behind."""
    server = serve()
    client = server.client()
    for name in ("app", "org/app"):
        client.push_blob(name, b"{}")
        client.push_manifest(name, "latest", MANIFEST)
    outside = _outside(server)
    _send(server, count // 5, seed + THREADS)
    before = server.memory()
    statuses = _send(server, count, seed)
    outcome = Outcome(statuses, before, server.memory())
    assert _outside(server) == outside
    assert b"Traceback" not in server.log.read_bytes()
    # By a new connection: the first one was idle for longer than the registry keeps one open.
    assert server.client().ask("GET", "/v2/app/manifests/latest").status in (200, 404)
    return outcome


def _send(server: Server, count: int, seed: int) -> Counter[int]:
    def work(number: int) -> Counter[int]:
        chance = random.Random(seed + number)
        # The pull endpoint gets its share.
        port = server.pull_port if number == 0 else server.push_port
        sender, statuses = Sender(port, server.context), Counter[int]()
        for _ in range(count // THREADS):
            method, raw = make(chance)
            status = sender.send(method, raw)
            assert status < 500, (status, raw[:1000])
            statuses[status] += 1
        sender.close()
        return statuses

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(work, range(THREADS)), Counter[int]())


def _outside(server: Server) -> set[Path]:
    """Return the files beside the store, where no request may reach."""
    return {path for path in files_below(server.folder) if server.storage not in path.parents}


def check(outcome: Outcome, growth: float) -> None:
    """Require that most requests were answered, and that memory did not grow by more MiB."""
    assert outcome.statuses[0] < outcome.statuses.total() / 10, outcome.figures
    assert outcome.memory_after - outcome.memory_before < growth, outcome.figures
