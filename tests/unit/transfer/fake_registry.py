# SPDX-License-Identifier: Apache-2.0
"""A registry in a thread of the test, which does what it is told to do wrong."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def digest_of(content: bytes) -> str:
    """Return the digest of bytes as text."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    """Return what a manifest says of bytes."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


@dataclass
class Fault:
    """What the registry does instead, for the first requests that match."""

    method: str
    path: re.Pattern[str]
    act: Callable[[Handler], bool]
    """Answers, and tells whether that was all; False goes on as if nothing was."""
    times: int


@dataclass
class FakeRegistry:
    """Its content, what was asked of it, and its faults."""

    url: str = ""
    blobs: dict[str, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    manifests: dict[str, dict[str, tuple[str, bytes]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    uploads: dict[str, bytearray] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    referrers_api: bool = True
    mounts: bool = True
    verifies: bool = False
    """Whether it says that it compares blobs with their digests, which it does in any case."""
    largest_body: int = 1 << 40
    token_uses: int = 0
    """So many requests a token is good for; 0 wants none."""
    tokens: dict[str, int] = field(default_factory=dict)
    scopes: list[list[str]] = field(default_factory=list)
    names: Iterator[int] = field(default_factory=itertools.count)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def host(self) -> str:
        """The host and port, as an image names it."""
        return self.url.removeprefix("http://")

    def image(self, name: str) -> str:
        """Return an image of this registry as a user writes it."""
        return f"{self.url}/{name}"

    def fail(self, method: str, path: str, act: Callable[[Handler], bool], times: int = 1) -> None:
        """Have the next requests fail that match."""
        self.faults.append(Fault(method, re.compile(path), act, times))

    def asked(self, method: str, path: str = "") -> list[str]:
        """Return the paths that were asked for by a method."""
        return [one for verb, one in self.requests if verb == method and re.search(path, one)]

    def add_blob(self, repository: str, content: bytes) -> bytes:
        """Have a blob."""
        self.blobs[repository][digest_of(content)] = content
        return content

    def add_manifest(
        self, repository: str, tree: dict[str, Any], tag: str = "", media_type: str = ""
    ) -> bytes:
        """Have a manifest, and return its bytes."""
        raw = json.dumps(tree).encode()
        kind = media_type or str(tree.get("mediaType", ""))
        for reference in filter(None, (digest_of(raw), tag)):
            self.manifests[repository][reference] = (kind, raw)
        return raw

    def add_image(
        self,
        repository: str,
        tag: str = "",
        layers: tuple[bytes, ...] = (b"layer",),
        architecture: str = "amd64",
        **more: Any,
    ) -> bytes:
        """Have an image, and return its manifest's bytes."""
        config = json.dumps({"os": "linux", "architecture": architecture}).encode()
        for content in (config, *layers):
            self.add_blob(repository, content)
        tree = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(config, CONFIG),
            "layers": [descriptor(layer, LAYER) for layer in layers],
            **more,
        }
        return self.add_manifest(repository, tree, tag)

    def add_index(self, repository: str, tag: str, children: dict[str, bytes]) -> bytes:
        """Have an index of manifests by their platforms, and return its bytes."""
        listed = []
        for platform, raw in children.items():
            system, architecture = platform.split("/")
            where = {"os": system, "architecture": architecture}
            kind = self.manifests[repository][digest_of(raw)][0]
            listed.append(descriptor(raw, kind, platform=where))
        tree = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
        return self.add_manifest(repository, tree, tag)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    registry: FakeRegistry

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do(self) -> None:
        """Serve any method."""
        registry = self.registry
        with registry.lock:
            registry.requests.append((self.command, self.path))
            registry.headers.append(dict(self.headers.items()))
            fault = next((one for one in registry.faults if self._meets(one)), None)
            if fault is not None:
                fault.times -= 1
        if fault is not None and fault.act(self):
            return
        if self.path.startswith("/token"):
            self._token()
        elif registry.token_uses and not self._allowed():
            self.read()
            realm = f'Bearer realm="{registry.url}/token",service="fake"'
            self.answer(401, {"WWW-Authenticate": realm})
        else:
            self._route()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do

    def _meets(self, fault: Fault) -> bool:
        return bool(
            fault.times > 0 and fault.method == self.command and fault.path.search(self.path)
        )

    @property
    def length(self) -> int:
        """The bytes of the request."""
        return int(self.headers.get("Content-Length") or 0)

    def read(self) -> bytes:
        """Return the body."""
        return self.rfile.read(self.length)

    def answer(
        self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> bool:
        """Send an answer; True, for faults."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        return True

    def _token(self) -> None:
        with self.registry.lock:
            token = f"token-{len(self.registry.tokens)}"
            self.registry.tokens[token] = self.registry.token_uses
            self.registry.scopes.append(parse_qs(urlsplit(self.path).query).get("scope", []))
        self.answer(200, body=json.dumps({"token": token, "expires_in": 300}).encode())

    def _allowed(self) -> bool:
        with self.registry.lock:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            left = self.registry.tokens.get(token, 0)
            if left > 0:
                self.registry.tokens[token] = left - 1
            return left > 0

    def _route(self) -> None:
        path = urlsplit(self.path).path
        for pattern, serve in ROUTES:
            found = pattern.fullmatch(path)
            if found:
                serve(self, *found.groups())
                return
        self.read()
        self.answer(404)

    def blob(self, repository: str, digest: str) -> None:
        """Serve a blob, or the part of it that is asked for."""
        content = self.registry.blobs[repository].get(digest)
        if content is None:
            self.answer(404)
            return
        first = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if first is None:
            self.answer(200, {"Docker-Content-Digest": digest}, content)
            return
        start = int(first[1])
        place = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.answer(206, {"Content-Range": place}, content[start:])

    def manifest(self, repository: str, reference: str) -> None:
        """Serve or take a manifest."""
        held = self.registry.manifests[repository]
        if self.command == "PUT":
            raw = self.read()
            lacking = self._lacking(repository, json.loads(raw))
            if lacking:
                told = {"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": lacking}]}
                self.answer(404, body=json.dumps(told).encode())
                return
            held[reference] = held[digest_of(raw)] = (self.headers["Content-Type"], raw)
            subject = json.loads(raw).get("subject")
            headers = {"Docker-Content-Digest": digest_of(raw)}
            if subject and self.registry.referrers_api:
                headers["OCI-Subject"] = subject["digest"]
            self.answer(201, headers)
        elif reference in held:
            kind, raw = held[reference]
            headers = {"Docker-Content-Digest": digest_of(raw)}
            self.answer(200, headers | ({"Content-Type": kind} if kind else {}), raw)
        else:
            self.answer(404)

    def _lacking(self, repository: str, tree: dict[str, Any]) -> str:
        blobs = [tree[key] for key in ("config",) if key in tree] + tree.get("layers", [])
        for one in blobs:
            if one["digest"] not in self.registry.blobs[repository]:
                return str(one["digest"])
        for one in tree.get("manifests", []):
            held = (self.registry.manifests[repository], self.registry.blobs[repository])
            if not any(one["digest"] in some for some in held):
                return str(one["digest"])
        return ""

    def referrers(self, repository: str, subject: str) -> None:
        """List what names a manifest as its subject."""
        if not self.registry.referrers_api:
            self.answer(404)
            return
        found = {
            digest_of(raw): descriptor(raw, kind)
            for kind, raw in self.registry.manifests[repository].values()
            if json.loads(raw).get("subject", {}).get("digest") == subject
        }
        tree = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(found.values())}
        self.answer(200, {"Content-Type": INDEX}, json.dumps(tree).encode())

    def begin(self, repository: str) -> None:
        """Begin an upload, or mount."""
        self.read()
        query = parse_qs(urlsplit(self.path).query)
        source, digest = query.get("from", [""])[0], query.get("mount", [""])[0]
        content = self.registry.blobs[source].get(digest) if self.registry.mounts else None
        if content is not None:
            self.registry.blobs[repository][digest] = content
            self.answer(201, {"Location": f"/v2/{repository}/blobs/{digest}"})
            return
        with self.registry.lock:
            name = f"{next(self.registry.names):08d}"
            self.registry.uploads[name] = bytearray()
        said = {"Buildset-Registry-Verifies": "digest"} if self.registry.verifies else {}
        self.answer(202, {"Location": f"/v2/{repository}/blobs/uploads/{name}", **said})

    def upload(self, repository: str, name: str) -> None:
        """Append, tell how much there is, finish, or cancel."""
        held = self.registry.uploads.get(name)
        if self.length > self.registry.largest_body:
            self.read()
            self.answer(413)
        elif held is None:
            self.read()
            self.answer(404)
        elif self.command == "DELETE":
            del self.registry.uploads[name]
            self.answer(204)
        else:
            self._take(held, self.length)
            if self.command == "PUT":
                self._finish(repository, name, bytes(held))
            else:
                place = {"Range": f"0-{max(len(held) - 1, 0)}", "Location": self.path}
                self.answer(204 if self.command == "GET" else 202, place)

    def _take(self, held: bytearray, length: int) -> None:
        while length and (piece := self.rfile.read(min(length, 65536))):
            held += piece
            length -= len(piece)

    def _finish(self, repository: str, name: str, content: bytes) -> None:
        digest = parse_qs(urlsplit(self.path).query)["digest"][0]
        del self.registry.uploads[name]
        if digest_of(content) != digest:
            self.answer(400, body=b'{"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}')
            return
        self.registry.blobs[repository][digest] = content
        self.answer(201, {"Docker-Content-Digest": digest})


ROUTES: list[tuple[re.Pattern[str], Callable[..., None]]] = [
    (re.compile(r"/v2/(.+)/blobs/uploads/"), Handler.begin),
    (re.compile(r"/v2/(.+)/blobs/uploads/([0-9]+)"), Handler.upload),
    (re.compile(r"/v2/(.+)/blobs/(sha256:.+)"), Handler.blob),
    (re.compile(r"/v2/(.+)/manifests/(.+)"), Handler.manifest),
    (re.compile(r"/v2/(.+)/referrers/(.+)"), Handler.referrers),
]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is no news."""


@contextmanager
def serving(handles: type[Handler] = Handler) -> Iterator[FakeRegistry]:
    """Run a registry as long as it is needed."""
    registry = FakeRegistry()
    handler = type("_Handler", (handles,), {"registry": registry})
    server = _Server(("127.0.0.1", 0), handler)
    registry.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def status(code: int, **headers: str) -> Callable[[Handler], bool]:
    """Answer with a status; underlines in names of headers become dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def act(handler: Handler) -> bool:
        handler.read()
        return handler.answer(code, named)

    return act


def half_a_body(handler: Handler) -> bool:
    """Announce the blob, send half of it, and leave."""
    _, _, rest = handler.path.partition("/v2/")
    repository, _, digest = rest.partition("/blobs/")
    content = handler.registry.blobs[repository][digest]
    start = int((re.findall(r"bytes=(\d+)-", handler.headers.get("Range", "")) or ["0"])[0])
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    handler.wfile.write(content[start : start + (len(content) - start) // 2])
    handler.close_connection = True
    return True


def wrong_bytes(handler: Handler) -> bool:
    """Send as many bytes as there are, of which the last is another."""
    _, _, rest = handler.path.partition("/v2/")
    repository, _, digest = rest.partition("/blobs/")
    content = handler.registry.blobs[repository][digest]
    return handler.answer(200, {}, content[:-1] + bytes([content[-1] ^ 1]))


def take_half(handler: Handler) -> bool:
    """Take half of a chunk and leave."""
    length = int(handler.headers.get("Content-Length") or 0)
    name = handler.path.partition("?")[0].rpartition("/")[2]
    handler.registry.uploads[name] += handler.rfile.read(length // 2)
    handler.close_connection = True
    handler.connection.close()
    return True
