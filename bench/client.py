# SPDX-License-Identifier: Apache-2.0
"""A client that pushes: one connection, kept alive, and large bodies straight from files."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import ssl
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from types import TracebackType
from urllib.parse import urlencode, urlsplit

from bench.identity import BASIC

_BLOCK = 1 << 20
_PATIENCE_SECONDS = 300
_BINARY = {"Content-Type": "application/octet-stream"}
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


class Refused(Exception):
    """The registry did not answer as it should."""


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Message
    content: bytes

    @property
    def location(self) -> str:
        """The path and query of where to go on."""
        parts = urlsplit(str(self.headers["Location"]))
        return f"{parts.path}?{parts.query}" if parts.query else parts.path


@dataclass(frozen=True)
class Blob:
    """Content that a client has in a file."""

    path: Path
    digest: str
    size: int


def digest_of(content: bytes) -> str:
    """Return the digest of bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Client:
    """A connection to one endpoint, with or without a login."""

    def __init__(
        self,
        port: int,
        trust: ssl.SSLContext,
        *,
        login: bool = False,
        address: str = "127.0.0.1",
    ) -> None:
        self._connection = http.client.HTTPSConnection(
            address, port, context=trust, timeout=_PATIENCE_SECONDS, blocksize=_BLOCK
        )
        self._asks_login = login
        self.login: dict[str, str] = {}

    def __enter__(self) -> Client:
        if self._asks_login:
            # A password is checked once here: registries may remember that it was right.
            self.login = {"Authorization": self._authorization()}
            self.ask("GET", "/v2/")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def _authorization(self) -> str:
        """Return what the endpoint asks of a client that may push: Basic, or a bearer token."""
        challenge = str(self.ask("GET", "/v2/").headers["WWW-Authenticate"])
        if not challenge.lower().startswith("bearer"):
            return BASIC
        told = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        query = {"scope": "repository:bench/image:pull,push", "service": told.get("service", "")}
        path = f"{urlsplit(told['realm']).path}?{urlencode(query)}"
        answer = self.expect(200, "GET", path, headers={"Authorization": BASIC})
        token = json.loads(answer.content)
        return f"Bearer {token.get('token') or token['access_token']}"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Path | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request and read the whole answer."""
        told = {**self.login, **(headers or {})}
        if isinstance(body, Path):
            told["Content-Length"] = str(body.stat().st_size)
            with body.open("rb") as content:
                self._connection.request(method, path, content, told)
        else:
            self._connection.request(method, path, body, told)
        answer = self._connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    def expect(
        self,
        status: int,
        method: str,
        path: str,
        body: bytes | Path | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request that has one good answer; raises ``Refused`` for another one."""
        answer = self.ask(method, path, body, headers)
        if answer.status != status:
            raise Refused(f"{method} {path}: {answer.status} {answer.content[:200]!r}")
        return answer

    def push(self, name: str, content: bytes) -> str:
        """Push a small blob and return its digest."""
        digest = digest_of(content)
        started = self.expect(202, "POST", f"/v2/{name}/blobs/uploads/")
        self.expect(201, "PUT", _finished(started.location, digest), content, _BINARY)
        return digest

    def push_file(self, name: str, blob: Blob, *, whole: bool = False) -> None:
        """Push a blob as docker does, by PATCH and PUT, or ``whole`` in the PUT."""
        started = self.expect(202, "POST", f"/v2/{name}/blobs/uploads/")
        if whole:
            self.expect(201, "PUT", _finished(started.location, blob.digest), blob.path, _BINARY)
            return
        sent = self.ask("PATCH", started.location, blob.path, _BINARY)
        if sent.status not in (202, 204):
            raise Refused(f"PATCH: {sent.status} {sent.content[:200]!r}")
        self.expect(201, "PUT", _finished(sent.location, blob.digest), b"", _BINARY)

    def has_blob(self, name: str, blob: Blob) -> bool:
        """Ask whether a blob of that size is there."""
        answer = self.ask("HEAD", f"/v2/{name}/blobs/{blob.digest}")
        return answer.status == 200 and answer.headers["Content-Length"] == str(blob.size)

    def push_manifest(self, name: str, tag: str, raw: bytes) -> None:
        """Push a manifest under a tag."""
        path = f"/v2/{name}/manifests/{tag}"
        self.expect(201, "PUT", path, raw, {"Content-Type": MANIFEST_TYPE})


def _finished(location: str, digest: str) -> str:
    return f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': digest})}"
