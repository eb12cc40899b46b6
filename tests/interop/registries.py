# SPDX-License-Identifier: Apache-2.0
"""Three registries over one kind of data directory, each started as its users start it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import httpx
from trustme import CA

from tests.ports import free_port

USER, PASSWORD = "pusher", "correct horse"
#: A folder; or the section of a service, by the parameters that both take.
Storage = Path | Mapping[str, object]
_START_SECONDS = 60


@dataclass(frozen=True)
class Program:
    """A registry's command and the configuration that makes it serve a folder."""

    name: str
    command: tuple[str, ...]
    config: Callable[[Storage, int, Identity], dict[str, object]]
    words: tuple[str, ...] = ()
    """What stands after the configuration."""

    @contextlib.contextmanager
    def serving(self, storage: Storage, identity: Identity) -> Iterator[httpx.Client]:
        """Serve ``storage`` over TLS; yields a client that may do everything."""
        with self.running(storage, identity) as (client, _):
            yield client

    @contextlib.contextmanager
    def running(
        self, storage: Storage, identity: Identity
    ) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
        """Serve ``storage`` over TLS; yields a client that may do everything, and the process."""
        folder = identity.folder
        port = free_port()
        config = folder / f"{self.name}-{port}.yml"
        config.write_text(json.dumps(self.config(storage, port, identity)))
        with (folder / f"{self.name}-{port}.log").open("w+") as log:
            # With it, distribution 2.8 does not start on a bucket.
            environment = {name: os.environ[name] for name in os.environ if name != "AWS_CA_BUNDLE"}
            process = subprocess.Popen(
                [*self.command, str(config), *self.words], stdout=log, stderr=log, env=environment
            )
            client = httpx.Client(
                base_url=f"https://127.0.0.1:{port}",
                verify=identity.trust,
                auth=httpx.BasicAuth(USER, PASSWORD),
                timeout=30,
                follow_redirects=True,
            )
            try:
                with client:
                    _wait(client, process, Path(log.name))
                    yield client, process
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise


@dataclass(frozen=True)
class Identity:
    """A certificate for this machine, and how to trust it."""

    folder: Path
    certificate: Path
    key: Path
    trust: ssl.SSLContext

    @classmethod
    def make(cls, folder: Path, authority: CA, *names: str) -> Identity:
        """Write certificate, key and users into ``folder``."""
        leaf = authority.issue_cert("127.0.0.1", *names)
        certificate, key = folder / "tls.pem", folder / "tls.key"
        certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        (folder / "htpasswd").write_text(f"{USER}:{hashed}\n")
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        return cls(folder, certificate, key, trust)


def maintain(command: str, storage: Storage, identity: Identity) -> dict[str, Any]:
    """Run one of our commands on a folder that nobody serves; return what it tells."""
    config = identity.folder / "maintenance.yml"
    config.write_text(json.dumps(_our_config(storage, 1, identity)))
    words = [sys.executable, "-m", "buildset_registry", command, "--json", "--config", str(config)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def ours() -> Program:
    """Return this project's registry."""
    command = (sys.executable, "-m", "buildset_registry", "serve", "--config")
    return Program("ours", command, _our_config)


def distribution(name: str, binary: str) -> Program:
    """Return a version of distribution."""
    return Program(name, (str(binary), "serve"), _distribution_config)


def _our_config(storage: Storage, port: int, identity: Identity) -> dict[str, object]:
    return {
        "endpoints": {"single": {"port": port, "address": "127.0.0.1"}},
        "storage": str(storage) if isinstance(storage, Path) else dict(storage),
        "tls": {"certificate": str(identity.certificate), "key": str(identity.key)},
        "auth": {"htpasswd": str(identity.folder / "htpasswd")},
    }


def _distribution_config(storage: Storage, port: int, identity: Identity) -> dict[str, object]:
    kept: dict[str, object] = {"filesystem": {"rootdirectory": str(storage)}}
    if not isinstance(storage, Path):
        kept = dict(storage)
    return {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {
            **kept,
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": {
            "addr": f"127.0.0.1:{port}",
            "tls": {"certificate": str(identity.certificate), "key": str(identity.key)},
        },
    }


def _wait(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            client.get("/v2/")
            return
        except httpx.TransportError:
            alive = process.poll() is None and time.monotonic() < deadline
            assert alive, f"did not start: {log.read_text()}"
            time.sleep(0.05)
