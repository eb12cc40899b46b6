# SPDX-License-Identifier: Apache-2.0
"""Registries in threads of this process, and what a client does with one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import httpx
from buildset_registry.config import Config, parse
from buildset_registry.oci.descriptor import OCI_MANIFEST
from buildset_registry.server.serve import serve
from trustme import CA

from tests.api.configurations import TABLE, Configuration
from tests.ports import free_port
from tests.stores.fixtures import ObjectStores

USER, PASSWORD = "buildset", "correct horse"
_HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()


def hash_line() -> str:
    """Return the line of the user for an htpasswd file."""
    return f"{USER}:{_HASH}\n"


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of bytes as text."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def trusting(authority: CA) -> ssl.SSLContext:
    """Return TLS for clients that trust the authority.

    Nothing else: loading the system's own store takes longer than starting a registry.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


@contextlib.contextmanager
def raw(client: httpx.Client) -> Iterator[socket.socket]:
    """A connection to a client's server on which a test writes what and when it likes."""
    url = client.base_url
    assert url.port is not None
    with contextlib.ExitStack() as stack:
        made: socket.socket = stack.enter_context(
            socket.create_connection((url.host, url.port), 30)
        )
        if url.scheme == "https":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            made = stack.enter_context(context.wrap_socket(made))
        yield made


def code(answer: httpx.Response) -> str:
    """Return the code of the error that an answer tells."""
    return str(answer.json()["errors"][0]["code"])


@dataclass
class Registry:
    """A running registry: base URLs of its endpoints, a client for each, and its files."""

    pull: httpx.Client
    push: httpx.Client
    anonymous: httpx.Client
    storage: Path
    log: Path
    stop: Callable[[], object]

    def push_blob(self, name: str, content: bytes, algorithm: str = "sha256") -> str:
        """Push a blob in one request and return its digest."""
        digest = digest_of(content, algorithm)
        started = self.push.post(f"/v2/{name}/blobs/uploads/")
        assert started.status_code == 202, started.text
        location = started.headers["location"]
        done = self.push.put(location, params={"digest": digest}, content=content)
        assert done.status_code == 201, done.text
        return digest

    def image(self, name: str, seed: bytes = b"seed") -> bytes:
        """Push the blobs of a small image and return its manifest's bytes."""
        config, layer = b'{"seed": "%s"}' % seed.hex().encode(), seed * 10
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": self._descriptor(
                    name, config, "application/vnd.oci.image.config.v1+json"
                ),
                "layers": [self._descriptor(name, layer, "application/vnd.oci.image.layer.v1.tar")],
            }
        ).encode()

    def push_image(self, name: str, tag: str, seed: bytes = b"seed") -> str:
        """Push a small image and return its digest."""
        raw = self.image(name, seed)
        answer = self.put_manifest(name, tag, raw)
        assert answer.status_code == 201, answer.text
        return digest_of(raw)

    def put_manifest(
        self, name: str, reference: str, raw: bytes, media_type: str = OCI_MANIFEST
    ) -> httpx.Response:
        """Put a manifest and return the answer."""
        return self.push.put(
            f"/v2/{name}/manifests/{reference}", content=raw, headers={"Content-Type": media_type}
        )

    def wait_for_log(self, text: str) -> None:
        """Wait until the log holds ``text``."""
        deadline = time.monotonic() + 60
        while text not in self.log.read_text():
            assert time.monotonic() < deadline, f"{text} is not in {self.log.read_text()}"
            time.sleep(0.05)

    def _descriptor(self, name: str, content: bytes, media_type: str) -> dict[str, str | int]:
        digest = self.push_blob(name, content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}


class Harness:
    """Starts registries below one folder, in one configuration, and stops them at the end."""

    def __init__(
        self,
        folder: Path,
        authority: CA,
        configuration: Configuration = TABLE[0],
        object_stores: ObjectStores | None = None,
    ) -> None:
        self._object_stores = object_stores if configuration.bucket else None
        self._bucket = self._object_stores.minio.bucket() if self._object_stores else ""
        self.folder = folder
        self.authority = authority
        self.trusted = trusting(authority)
        self._configuration = configuration
        self._stack = contextlib.ExitStack()
        self._certificate = folder / "server.pem"
        self._key = folder / "server.key"

    def __enter__(self) -> Harness:
        leaf = self.authority.issue_cert("127.0.0.1", "localhost")
        self._certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        # trustme writes PKCS#1 or SEC 1, as users' own keys are: the server takes these, too.
        self._key.write_bytes(leaf.private_key_pem.bytes())
        (self.folder / "htpasswd").write_text(hash_line())
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def start(
        self,
        name: str = "registry",
        *,
        single: bool | None = None,
        auth: Mapping[str, object] | None = None,
        upstreams: Sequence[Mapping[str, object]] = (),
        **settings: object,
    ) -> Registry:
        """Start a registry, with what else the configuration may say, and wait until it answers."""
        one = self._configuration.single if single is None else single
        ports = {"single": free_port()} if one else {"pull": free_port(), "push": free_port()}
        config = {
            "endpoints": {
                kind: {"port": port, "address": "127.0.0.1"} for kind, port in ports.items()
            },
            "storage": self._storage(name),
            "tls": {"certificate": str(self._certificate), "key": str(self._key)},
            "auth": {"htpasswd": "htpasswd", **(auth or {})},
            "upstreams": list(upstreams),
            **self._configuration.settings,
            **settings,
        }
        log = self.folder / f"{name}.log"
        stop, alive = self._stack.enter_context(_serving(parse(config, name, self.folder), log))
        scheme = "https" if config["tls"] else "http"
        first, *more = ports.values()
        last = more[0] if more else first
        pull, push = self.client(first, scheme), self.client(last, scheme)
        push.auth = httpx.BasicAuth(USER, PASSWORD)
        anonymous = self.client(last, scheme)
        _wait(pull, alive)
        _wait(anonymous, alive)
        return Registry(pull, push, anonymous, self.folder / f"{name}-data", log, stop)

    def _storage(self, name: str) -> object:
        """Return where a registry stores; in a bucket, what comes from it passes the registry."""
        if self._object_stores is None:
            return f"{name}-data"
        return {
            "s3": {**self._object_stores.minio.settings(self._bucket), "rootdirectory": name},
            "redirect": {"disable": True},
        }

    def client(self, port: int | None, scheme: str = "https") -> httpx.Client:
        """Return a client of a port of this machine that trusts the authority."""
        url = f"{scheme}://127.0.0.1:{port}"
        return self._stack.enter_context(
            httpx.Client(base_url=url, verify=self.trusted, timeout=30)
        )


@contextlib.contextmanager
def _serving(config: Config, log: Path) -> Iterator[tuple[Callable[[], None], Callable[[], bool]]]:
    """Serve in a thread; yields a function that ends it, and one that tells whether it lives."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    failure: list[BaseException] = []

    def work() -> None:
        asyncio.set_event_loop(loop)
        try:
            with log.open("w") as output:
                loop.run_until_complete(serve(config, output, stop))
        except BaseException as error:
            failure.append(error)
        finally:
            loop.close()

    thread = threading.Thread(target=work)
    thread.start()

    def end() -> None:
        if thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
            thread.join(60)
        assert not thread.is_alive(), "the server did not stop"
        if failure:
            raise failure[0]

    try:
        yield end, thread.is_alive
    finally:
        end()


def _wait(client: httpx.Client, alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while alive():
        try:
            client.get("/v2/")
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
