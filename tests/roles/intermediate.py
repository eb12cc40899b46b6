# SPDX-License-Identifier: Apache-2.0
"""Registries that images travel between, each a real program: the buildsets' and the one amid them.

Those amid them want a login, and have a certificate that no public authority has signed and that is
valid for a name which does not resolve.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trustme

from tests.interop.content import digest_of
from tests.interop.registries import PASSWORD, USER, Identity, Program, ours

#: A name of the certificate that the machine's resolver does not know.
NAME = "registry.of.all.buildsets.invalid"
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
    program = os.environ.get("BENCH_ZUUL_REGISTRY", "zuul-registry")
    return Program(kind, (program, "-c"), _zuul_registry, ("serve",))


KINDS = ("ours", "zuul-registry", "distribution")


def _closed(storage: Path, port: int, identity: Identity) -> dict[str, object]:
    settings: dict[str, Any] = ours().config(storage, port, identity)
    settings["auth"]["anonymous_pull"] = False
    return dict(settings)


def _distribution(storage: Path, port: int, identity: Identity) -> dict[str, object]:
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


def _zuul_registry(storage: Path, port: int, identity: Identity) -> dict[str, object]:
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
            identity = Identity.make(place, authority, NAME)
            client = stack.enter_context(program.serving(place / "data", identity))
            log_in(client)
            served.append(Served(client, cert))
        yield served


def log_in(client: httpx.Client) -> None:
    """Get the token without which zuul-registry takes no request; others need no more than is."""
    answer = client.get("/auth/token", params={"scope": "repository:any:push"})
    if answer.status_code == 200:
        client.auth = None
        client.headers["Authorization"] = f"Bearer {answer.json()['token']}"
