# SPDX-License-Identifier: Apache-2.0
"""Three registries on one bucket behind a proxy, configured as the documentation says."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trustme
import yaml

from tests.clients import daemon
from tests.clients.commands import wait_until
from tests.clients.registry import trust
from tests.nginx import nginx_command
from tests.ports import free_port
from tests.stores.fixtures import ObjectStores
from tests.stores.process import listens
from tests.stores.replicas import Replica, Replicas

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "replicas"
HOST = "192.0.2.1"
#: The hosts of the examples.
_HOSTS = ("10.0.0.11:5000", "10.0.0.12:5000", "10.0.0.13:5000")


@dataclass
class Farm:
    """The registries, and the address of the proxy in front of them."""

    address: str
    replicas: list[tuple[Replica, int]]
    """Each registry with the port of its metrics."""

    def busy(self) -> Replica | None:
        """Return one to which a blob is being sent; those that were killed are none."""
        for replica, metrics in self.replicas:
            if replica.process.poll() is None and _uploads(metrics) > 0:
                return replica
        return None

    def kill_in_mid_push(self, push: subprocess.Popen[bytes]) -> None:
        """Kill the registry that takes a layer: one that is sent for longer than a moment."""
        deadline = time.monotonic() + 120
        while True:
            assert push.poll() is None, "the push ended before a registry could be killed"
            assert time.monotonic() < deadline
            found = self.busy()
            time.sleep(0.05)
            if found is not None and found is self.busy():
                found.kill()
                return


def _uploads(port: int) -> float:
    try:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=20).text
    except httpx.TransportError:
        return 0
    return sum(map(float, re.findall(r"^buildset_registry_uploads_running\S* (\S+)$", text, re.M)))


def storage_of(store: str, stores: ObjectStores) -> dict[str, Any]:
    """Return the section of the configuration for a bucket of a server."""
    if store == "swift":
        return {"swift": stores.swift.settings(stores.swift.container())}
    return {"s3": stores.minio.settings(stores.minio.bucket())}


@contextmanager
def running(folder: Path, proxy: str, storage: dict[str, Any]) -> Iterator[Farm]:
    """Run three registries and a proxy, which all clients trust."""
    told = yaml.safe_load((EXAMPLES / "registry.yaml").read_text())
    # A token ends with the line of its user: all have the same file, which the first one makes.
    same = {"htpasswd": folder / "0" / "htpasswd", "token_key": folder / "token.key"}
    told["auth"] = {name: str(path) for name, path in same.items()}
    (folder / "token.key").write_bytes(os.urandom(32))
    del told["endpoints"], told["storage"]
    authority = trustme.CA()
    leaf = authority.issue_cert(HOST)
    leaf.private_key_and_cert_chain_pem.write_to_path(folder / "registry.pem")
    leaf.private_key_pem.write_to_path(folder / "registry.key")
    with ExitStack() as stack:
        replicas = []
        for number, _host in enumerate(_HOSTS):
            place, metrics = folder / str(number), free_port()
            place.mkdir()
            settings = told | {"metrics": {"port": metrics}}
            replica = stack.enter_context(Replicas(place, storage, **settings).one())
            replicas.append((replica, metrics))
        ports = [replica.client.base_url.port or 0 for replica, _metrics in replicas]
        port = free_port()
        command = PROXIES[proxy](folder, port, ports)
        started = stack.enter_context(daemon.process(folder / f"{proxy}.out", *command))
        wait_until(lambda: started.poll() is None and listens_at(port), proxy)
        address = f"{HOST}:{port}"
        stack.enter_context(trust(address, authority.cert_pem.bytes().decode()))
        yield Farm(address, replicas)


def listens_at(port: int) -> bool:
    """Tell whether the proxy takes connections."""
    return listens(port, HOST)()


def _example(name: str, ports: Sequence[int]) -> str:
    """Return an example with the registries of a test."""
    text = (EXAMPLES / name).read_text()
    for host, port in zip(_HOSTS, ports, strict=True):
        assert host in text
        text = text.replace(host, f"127.0.0.1:{port}")
    return text


def _nginx(folder: Path, port: int, ports: Sequence[int]) -> list[str]:
    text = _example("nginx.conf", ports).replace("listen 443 ssl", f"listen {HOST}:{port} ssl")
    (folder / "registry.conf").write_text(text.replace("/etc/nginx", str(folder)))
    return nginx_command(folder, f"include {folder}/registry.conf;")


def _haproxy(folder: Path, port: int, ports: Sequence[int]) -> list[str]:
    text = _example("haproxy.cfg", ports).replace("bind :443", f"bind {HOST}:{port}")
    (folder / "haproxy.cfg").write_text(text.replace("/etc/haproxy", str(folder)))
    return ["/usr/sbin/haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


PROXIES = {"nginx": _nginx, "haproxy": _haproxy}
