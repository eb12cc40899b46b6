# SPDX-License-Identifier: Apache-2.0
"""A client of the proxy for docker, which keeps each step in its own hands."""

from __future__ import annotations

import contextlib
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

import httpx

from tests.api.harness import PASSWORD, USER, Harness, Registry
from tests.ports import free_port

NAME = "registry.example"


def basic(user: str = USER, password: str = PASSWORD) -> str:
    """Return the value of a header with credentials."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


@dataclass(frozen=True)
class ProxyClient:
    """A client of the proxy at a port."""

    port: int
    trusted: ssl.SSLContext

    @contextlib.contextmanager
    def asked(
        self, target: str, credentials: str | None = None, *more: str
    ) -> Iterator[tuple[HTTPResponse, ssl.SSLSocket]]:
        """Ask for a tunnel, with more headers; yields the answer and the connection."""
        lines = [f"Proxy-Authorization: {credentials}"] if credentials else []
        said = "".join(f"{line}\r\n" for line in (*lines, *more))
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=20) as plain,
            self.trusted.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            secure.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{said}\r\n".encode())
            answer = HTTPResponse(secure, method="CONNECT")
            answer.begin()
            yield answer, secure
            answer.close()

    def refused(self, target: str, credentials: str | None = None, *more: str) -> tuple[int, str]:
        """Ask for a tunnel that is not to be; returns the status and the line."""
        with self.asked(target, credentials, *more) as (answer, _connection):
            line = answer.read().decode()
            assert line == f"{answer.reason}\n", "docker shows the reason alone"
            return answer.status, answer.reason

    def client(self, credentials: str | None = None) -> httpx.Client:
        """Return a client that uses the proxy, as docker does."""
        headers = {"Proxy-Authorization": credentials or basic()}
        url = f"https://127.0.0.1:{self.port}"
        proxy = httpx.Proxy(url, headers=headers, ssl_context=self.trusted)
        return httpx.Client(verify=self.trusted, proxy=proxy, timeout=20)


@dataclass(frozen=True)
class Proxied(ProxyClient):
    """A registry with a proxy."""

    registry: Registry


def start(
    harness: Harness,
    *registries: str,
    certified: Sequence[str] = (NAME,),
    proxy: Mapping[str, object] | None = None,
    auth: Mapping[str, object] | None = None,
    **others: Any,
) -> Proxied:
    """Start a registry whose proxy stands for other registries, with a certificate for names."""
    names = registries or (NAME,)
    leaf = harness.authority.issue_cert(*certified)
    for name, pem in (("proxy.pem", leaf.cert_chain_pems[0]), ("proxy.key", leaf.private_key_pem)):
        pem.write_to_path(harness.folder / name)
    port = free_port()
    settings = {
        "port": port,
        "address": "127.0.0.1",
        "tls": {"certificate": "proxy.pem", "key": "proxy.key"},
        "registries": list(names),
        **(proxy or {}),
    }
    return Proxied(port, harness.trusted, harness.start(proxy=settings, auth=auth, **others))
