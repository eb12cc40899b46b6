# SPDX-License-Identifier: Apache-2.0
"""Registries that images travel between, each a real program: the buildsets' and the one amid them.

Those amid them want a login, and have a certificate that no public authority has signed and that is
valid for a name which does not resolve.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import trustme

from tests.interop.content import digest_of
from tests.interop.registries import PASSWORD, USER, Identity, Program, Storage, ours
from tests.roles import harness
from tests.roles.executor import Job

#: A name of the certificate that the machine's resolver does not know.
NAME = "registry.of.all.buildsets.invalid"
#: Where the artifacts of an earlier change come from, as Zuul tells it with them.
CHANGE = {"project": "org/app", "change": "41", "patchset": "2", "job": "build-images"}
READ = """
import json, sys
from zuul.lib.result_data import get_artifacts_from_result_data
json.dump(get_artifacts_from_result_data(json.load(sys.stdin)), sys.stdout)
"""
ACCEPT = ", ".join(
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]
)


def intermediate(kind: str) -> Program:
    """Return an intermediate registry: this project's, zuul-registry, or distribution 3."""
    if kind == "ours":
        return Program(kind, ours().command, _closed)
    if kind == "distribution":
        return Program(kind, ("registry", "serve"), _distribution)
    program = os.environ["BENCH_ZUUL_REGISTRY"]
    return Program(kind, (program, "-c"), _zuul_registry, ("serve",))


KINDS = ("ours", "zuul-registry", "distribution")


def _closed(storage: Storage, port: int, identity: Identity) -> dict[str, object]:
    settings: dict[str, Any] = ours().config(storage, port, identity)
    settings["auth"]["anonymous_pull"] = False
    # IPv4 and IPv6.
    settings["endpoints"]["single"]["address"] = "::"
    return dict(settings)


def _distribution(storage: Storage, port: int, identity: Identity) -> dict[str, object]:
    return {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "auth": {"htpasswd": {"realm": "test", "path": str(identity.folder / "htpasswd")}},
        "http": {
            "addr": f"127.0.0.1:{port}",
            "tls": {"certificate": str(identity.certificate), "key": str(identity.key)},
        },
    }


def _zuul_registry(storage: Storage, port: int, identity: Identity) -> dict[str, object]:
    settings: dict[str, object] = {
        "address": "127.0.0.1",
        "port": port,
        "public-url": f"https://{NAME}:{port}",
        "tls-cert": str(identity.certificate),
        "tls-key": str(identity.key),
        "secret": "what its tokens are signed with",
        "users": [{"name": USER, "pass": PASSWORD, "access": "write"}],
        "storage": {"driver": "filesystem", "root": str(storage)},
    }
    return {"registry": settings}


@dataclass(frozen=True)
class Served:
    """A registry that runs, and how Ansible's roles are told of it."""

    client: httpx.Client
    cert: str

    @property
    def port(self) -> int:
        """Its port."""
        assert self.client.base_url.port
        return self.client.base_url.port

    @property
    def facts(self) -> dict[str, Any]:
        """The facts of a registry with one port."""
        login = {"username": USER, "password": PASSWORD, "cert": self.cert}
        return {"host": "127.0.0.1", "port": self.port, **login}

    @property
    def secret(self) -> dict[str, Any]:
        """The secret of an intermediate registry whose name the executor cannot resolve."""
        return {**self.facts, "host": NAME, "address": "127.0.0.1"}

    def digest(self, repository: str, reference: str) -> str:
        """Return what a tag is, by the bytes of it; nothing where there is none."""
        answer = self.client.get(
            f"/v2/{repository}/manifests/{reference}", headers={"Accept": ACCEPT}
        )
        if answer.status_code == 404:
            return ""
        assert answer.status_code == 200, answer.text
        return digest_of(answer.content)


@contextmanager
def serving(folder: Path, *programs: Program) -> Iterator[list[Served]]:
    """Run registries under one authority, each on data of its own."""
    authority = trustme.CA()
    cert = authority.cert_pem.bytes().decode()
    with ExitStack() as stack:
        served = []
        for number, program in enumerate(programs):
            place = folder / f"{program.name}-{number}"
            place.mkdir(parents=True)
            identity = Identity.make(place, authority, NAME, "::1")
            client = stack.enter_context(program.serving(place / "data", identity))
            log_in(client)
            served.append(Served(client, cert))
        yield served


def log_in(client: httpx.Client) -> None:
    """Get the token without which zuul-registry takes no request; others need no more than is."""
    answer = client.get("/auth/token", params={"scope": "repository:any:push"})
    if answer.status_code == 200:
        token = f"Bearer {answer.json()['token']}"

        def bearer(request: httpx.Request) -> httpx.Request:
            request.headers["Authorization"] = token
            return request

        client.auth = bearer


def handed_on(job: Job) -> list[dict[str, Any]]:
    """Return what a build has returned as Zuul reads it and hands it to a job of another change."""
    python = harness.environment_with("zuul==14.3.0") / "bin" / "python"
    data = json.dumps(job.returned["data"])
    words = [str(python), "-c", READ]
    done = subprocess.run(words, input=data, capture_output=True, text=True, check=True)
    return [{**one, **CHANGE} for one in json.loads(done.stdout)]


@dataclass
class Faulty:
    """A registry that gives one answer to everything, and what it was asked."""

    port: int
    cert: str
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def facts(self) -> dict[str, Any]:
        """How it is named."""
        login = {"username": USER, "password": PASSWORD, "cert": self.cert}
        return {"host": "127.0.0.1", "port": self.port, **login}


class _Handler(BaseHTTPRequestHandler):
    """Answers by the server's function, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """Answer whatever the method is."""
        self.server.answer(self)  # type: ignore[attr-defined]

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, format: str, *_words: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    """A server whose connections end with it, and whose broken ones are no news."""

    daemon_threads = True

    def handle_error(self, _request: Any, _address: Any) -> None:
        """Say nothing."""


@contextmanager
def _listening(answer: Any, context: ssl.SSLContext | None = None) -> Iterator[int]:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.answer = answer  # type: ignore[attr-defined]
    if context:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def faulty(
    status: int | None, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Iterator[Faulty]:
    """Serve one answer over TLS; None is no answer at all, until the test has ended."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", NAME).configure_cert(context)
    ended = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        registry.asked[request.command, request.path] += 1
        if status is None:
            ended.wait(30)
            return
        request.rfile.read(int(request.headers.get("Content-Length") or 0))
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    with _listening(answer, context) as port:
        registry = Faulty(port, authority.cert_pem.bytes().decode())
        try:
            yield registry
        finally:
            ended.set()


@dataclass
class Api:
    """Zuul's API of a tenant: what it answers by the end of the path, and what it was asked."""

    port: int
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    #: What the next requests are answered by instead: a status, and where it leads.
    before: list[tuple[int, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """What promote_container_image_api is."""
        return f"http://127.0.0.1:{self.port}/api/tenant/example"

    def rename(self, repository: str, to: str) -> None:
        """Have its artifacts be of another repository; where they are stays."""
        for build in self.answers.get("/builds") or ():
            for artifact in build["artifacts"] if isinstance(build, dict) else ():
                metadata = artifact.get("metadata") or {}
                if metadata.get("repository") == repository:
                    metadata["repository"] = to


@contextmanager
def answering() -> Iterator[Api]:
    """Serve answers of Zuul's API."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        api.asked.append(request.path)
        path = request.path.partition("?")[0].removeprefix("/api/tenant/example")
        found = api.answers.get(path)
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        status, location = 404 if found is None else 200, ""
        if api.before:
            status, location = api.before.pop(0)
        request.send_response(status)
        if location:
            request.send_header("Location", location)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    with _listening(answer) as port:
        api = Api(port)
        yield api
