# SPDX-License-Identifier: Apache-2.0
"""A public registry as the registry under test sees it: distribution 2.8 with token auth and TLS.

It answers under the names of quay.io and Docker Hub, which /etc/hosts of the enclosed machine
leads to it.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection

import trustme

from tests.clients import tokens
from tests.clients.commands import run, wait_until
from tests.clients.registry import trust

ADDRESS = "192.0.2.2"
#: A registry that the one under test is not told of, and the address of it and of the token server.
OTHER, ELSEWHERE = "other.example.org", "198.51.100.2"
NAMES = ("quay.io", "registry-1.docker.io", OTHER)
_AUTH_NAME, _AUTH_PORT = "auth.example.org", 8443


@dataclass
class Upstream:
    """distribution, which can be stopped and started."""

    folder: Path
    ca: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """Read what it logged."""
        return (self.folder / "upstream.log").read_text()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self.folder / "upstream.log").open("a") as log:
            command = ["docker-registry", "serve", str(self.folder / "upstream.json")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._answers, "distribution answers")

    def stop(self) -> None:
        """Stop it."""
        if self.process:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    @contextmanager
    def away(self) -> Iterator[None]:
        """Have it stopped for a while."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def here(self) -> Iterator[None]:
        """Have it run for a while, though others have it stopped."""
        was_away = self.process is None
        if was_away:
            self.start()
        try:
            yield
        finally:
            if was_away:
                self.stop()

    def settings(self) -> Path:
        """Write what ``--upstreams-file`` takes."""
        path = self.folder / "upstreams.json"
        upstreams = [
            {"name": "quay.io", "url": "https://quay.io", "ca": str(self.ca)},
            {"name": "docker.io", "url": "https://registry-1.docker.io", "ca": str(self.ca)},
        ]
        path.write_text(json.dumps(upstreams))
        return path

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log
        with suppress(OSError), create_connection((ADDRESS, 443), timeout=5):
            return True
        return False


@contextmanager
def running(folder: Path) -> Iterator[Upstream]:
    """Run the registry and its token server; the clients are logged in to it as its user."""
    authority, signer, password = trustme.CA(), tokens.Signer.make(), secrets.token_hex()
    upstream = Upstream(folder, folder / "upstream-ca.pem")
    authority.cert_pem.write_to_path(upstream.ca)
    with Path("/etc/hosts").open("a") as hosts:
        hosts.write(f"{ADDRESS} {' '.join(NAMES[:-1])}\n{ELSEWHERE} {OTHER} {_AUTH_NAME}\n")
    leaf = authority.issue_cert(*NAMES, _AUTH_NAME)
    _write_settings(upstream, leaf, tokens.write_root(signer, folder))
    with tokens.serving((ADDRESS, _AUTH_PORT), leaf, signer, password):
        upstream.start()
        try:
            words = ["login", "--username", tokens.USER, "--password-stdin"]
            certificate = authority.cert_pem.bytes().decode()
            with trust("quay.io", certificate), trust(OTHER, certificate):
                for name in ("quay.io", OTHER):
                    run("skopeo", *words, name, stdin=password)
                yield upstream
        finally:
            upstream.stop()


def _write_settings(upstream: Upstream, leaf: trustme.LeafCert, root: Path) -> None:
    """Write distribution's configuration; JSON is YAML as well."""
    certificate, key = upstream.folder / "upstream.pem", upstream.folder / "upstream.key"
    certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(key)
    settings = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": False}, "level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(upstream.folder / "upstream-data")}},
        "http": {
            "addr": f"{ADDRESS}:443",
            "secret": secrets.token_hex(),
            "tls": {"certificate": str(certificate), "key": str(key)},
        },
        "auth": {
            "token": {
                "realm": f"https://{_AUTH_NAME}:{_AUTH_PORT}/token",
                "service": tokens.SERVICE,
                "issuer": tokens.ISSUER,
                "rootcertbundle": str(root),
            }
        },
    }
    (upstream.folder / "upstream.json").write_text(json.dumps(settings))
