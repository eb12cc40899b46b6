# SPDX-License-Identifier: Apache-2.0
"""A node as the role ``use-buildset-registry`` of zuul-jobs leaves it."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients.commands import run, wait_until
from tests.clients.registry import trust

DAEMON = Path("/etc/docker/daemon.json")
HUB = "https://index.docker.io/v1/"
#: docker.io stands at the top of the registry, every other one in a folder of its name.
REGISTRIES = """\
unqualified-search-registries = ["docker.io"]

[[registry]]
prefix = "docker.io"
location = "docker.io"
mirror = [{{ location = "{address}" }}, {{ location = "docker.io" }}]

[[registry]]
prefix = "quay.io"
location = "quay.io"
mirror = [{{ location = "{address}/quay.io" }}, {{ location = "quay.io" }}]
"""


@dataclass(frozen=True)
class Node:
    """How the node calls the registry, and what it logs in with."""

    address: str
    facts: Mapping[str, Any]

    def credentials(self) -> AbstractContextManager[None]:
        """Write docker's credentials: for the registry, and the same under Docker Hub's name."""
        return config_json({HUB: self.facts, self.address: self.facts})


@contextmanager
def config_json(registries: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Write ``~/.docker/config.json``, which skopeo, podman and buildah read as well."""
    auths = {}
    for name, facts in registries.items():
        pair = f"{facts['username']}:{facts['password']}"
        auths[name] = {"auth": base64.b64encode(pair.encode()).decode()}
    path = Path.home() / ".docker" / "config.json"
    path.write_text(json.dumps({"auths": auths}))
    try:
        yield
    finally:
        path.unlink()


@contextmanager
def configured(facts: Mapping[str, Any], alias: str) -> Iterator[Node]:
    """Name the address, trust the registry, and make it a mirror for every tool."""
    address = f"{alias}:{facts['port']}"
    others = [line for line in Path("/etc/hosts").read_text().splitlines() if alias not in line]
    hosts = "\n".join([*others, "192.0.2.1 registry.example.org", f"{facts['host']} {alias}", ""])
    mirrors = {"registry-mirrors": [f"https://{address}/"]}
    with ExitStack() as stack:
        stack.enter_context(_written(Path("/etc/hosts"), hosts))
        stack.enter_context(trust(address, facts["cert"]))
        registries = Path("/etc/containers/registries.conf")
        stack.enter_context(_written(registries, REGISTRIES.format(address=address)))
        stack.callback(_reload_docker)
        stack.enter_context(_written(DAEMON, json.dumps(mirrors)))
        _reload_docker()
        yield Node(address, facts)


@contextmanager
def _written(path: Path, text: str) -> Iterator[None]:
    """Have a file hold something for a while."""
    before = path.read_text()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(before)


def _reload_docker() -> None:
    """Let dockerd read its configuration anew, and wait until it has."""
    wanted = [url.rstrip("/") for url in json.loads(DAEMON.read_text())["registry-mirrors"]]
    os.kill(int(Path("/run/docker.pid").read_text()), signal.SIGHUP)
    words = ["docker", "info", "--format", "{{json .RegistryConfig.Mirrors}}"]
    wait_until(
        lambda: [url.rstrip("/") for url in json.loads(run(*words)) or []] == wanted, "reload"
    )
