# SPDX-License-Identifier: Apache-2.0
"""The registries that are compared, each as its users run it, and nginx as the practical limit.

Their access logs are off where they can be; this registry writes its own, as it does by default.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.identity import Identity


@dataclass(frozen=True)
class Place:
    """Where an instance runs: its folder, its ports and address, and the registry that it may pull
    through."""

    folder: Path
    pull_port: int
    push_port: int
    identity: Identity
    upstream: str | None = None
    address: str = "127.0.0.1"

    @property
    def data(self) -> Path:
        """Where its content is."""
        return self.folder / "data"

    @property
    def settings(self) -> Path:
        """Where its configuration is; JSON is YAML, too."""
        return self.folder / "config.yml"


@dataclass(frozen=True)
class Peer:
    """How a registry is started, and what it cannot do."""

    name: str
    title: str
    command: Callable[[Place], list[str]]
    settings: Callable[[Place], str]
    login: bool = False
    """Whether it asks for a login before anything is pulled."""
    two_ports: bool = False
    """Whether it has a port for pulls and one for pushes."""
    proxy: bool = False
    """Whether it pulls through."""
    files: bool = False
    """Whether it only serves files: it is given content by writing files, and takes no pushes."""
    slow: int = 1
    """How many times longer its requests are counted: some take seconds each."""
    only: frozenset[str] = frozenset()
    """The measures it is for, where not all."""


def _ours(place: Place) -> dict[str, Any]:
    identity = place.identity
    settings: dict[str, Any] = {
        "endpoints": {
            "pull": {"port": place.pull_port, "address": place.address},
            "push": {"port": place.push_port, "address": place.address},
        },
        "storage": str(place.data),
        "tls": {"certificate": str(identity.certificate), "key": str(identity.key)},
        "auth": {"htpasswd": str(identity.htpasswd)},
        "upstreams": [],
    }
    if place.upstream:
        upstream = {"name": "docker.io", "url": place.upstream, "ca": str(identity.authority)}
        settings["upstreams"] = [upstream]
    return settings


def _relaxed(place: Place) -> dict[str, Any]:
    return {**_ours(place), "durable": False}


def _with_ledger(place: Place) -> dict[str, Any]:
    return {**_ours(place), "ledger": {"folder": str(place.folder / "ledger")}}


def _closed(place: Place) -> dict[str, Any]:
    settings = _ours(place)
    settings["auth"]["anonymous_pull"] = False
    return settings


def _distribution(place: Place) -> dict[str, Any]:
    identity = place.identity
    settings: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(place.data)},
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {
            "addr": f"{place.address}:{place.pull_port}",
            "tls": {"certificate": str(identity.certificate), "key": str(identity.key)},
        },
    }
    if place.upstream:
        settings["proxy"] = {"remoteurl": place.upstream}
    return settings


def _distribution_login(place: Place) -> dict[str, Any]:
    users = {"realm": "bench", "path": str(place.identity.htpasswd)}
    return {**_distribution(place), "auth": {"htpasswd": users}}


def _zuul_registry(place: Place) -> dict[str, Any]:
    identity = place.identity
    return {
        "registry": {
            "address": "127.0.0.1",
            "port": place.pull_port,
            "public-url": f"https://127.0.0.1:{place.pull_port}",
            "tls-cert": str(identity.certificate),
            "tls-key": str(identity.key),
            "secret": "what its tokens are signed with",
            "users": [{"name": "bench", "pass": "correct horse", "access": "write"}],
            "storage": {"driver": "filesystem", "root": str(place.data)},
        }
    }


def nginx(place: Place, *, counted: bool = False) -> str:
    """Return a configuration that serves files by TLS; ``counted``, the file ``sent`` has the bytes
    of each answer."""
    temporary = "\n".join(
        f"{kind}_temp_path {place.folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    log = f"{place.folder}/sent bytes" if counted else "off"
    # Started by root, it would give up the rights to read what root has made.
    user = f"user {getpass.getuser()};" if os.getuid() == 0 else ""
    return f"""
{user} daemon off; worker_processes 2; pid {place.folder}/pid; error_log {place.folder}/error.log;
events {{ worker_connections 1024; }}
http {{
log_format bytes '$body_bytes_sent'; access_log {log};
sendfile on; tcp_nopush on; keepalive_requests 1000000000; open_file_cache max=1000;
{temporary}
server {{
listen 127.0.0.1:{place.pull_port} ssl;
ssl_certificate {place.identity.certificate}; ssl_certificate_key {place.identity.key};
root {place.data};
default_type application/octet-stream;
location = /v2/ {{ return 200 "{{}}"; }}
location ~ /manifests/ {{ default_type application/vnd.oci.image.manifest.v1+json; }}
}} }}
"""


def _written(settings: Callable[[Place], dict[str, Any]]) -> Callable[[Place], str]:
    return lambda place: json.dumps(settings(place))


def _serve(program: str) -> Callable[[Place], list[str]]:
    return lambda place: [program, "serve", str(place.settings)]


def _own(place: Place) -> list[str]:
    return [sys.executable, "-m", "buildset_registry", "serve", "--config", str(place.settings)]


def _before(place: Place) -> list[str]:
    program = os.environ.get(BEFORE, BEFORE)
    return [program, "-m", "buildset_registry", "serve", "--config", str(place.settings)]


def _zuul_command(place: Place) -> list[str]:
    return [os.environ.get(ZUUL_REGISTRY, "zuul-registry"), "-c", str(place.settings), "serve"]


def nginx_command(place: Place) -> list[str]:
    """Return how nginx is started, below a folder of its own."""
    return ["nginx", "-p", str(place.folder), "-c", str(place.settings)]


#: The variable that names zuul-registry's program: it has an environment of its own.
ZUUL_REGISTRY = "BENCH_ZUUL_REGISTRY"
#: The variable that names the Python of the environment that holds this registry as it was.
BEFORE = "BENCH_BEFORE"

_OURS, _TWO, _THREE = "buildset-registry", "distribution 2.8", "distribution 3"
PEERS = [
    Peer("ours", _OURS, _own, _written(_ours), two_ports=True, proxy=True),
    Peer(
        "ours-ledger",
        f"{_OURS}, ledger",
        _own,
        _written(_with_ledger),
        two_ports=True,
        proxy=True,
    ),
    Peer("before", f"{_OURS}, before", _before, _written(_ours), two_ports=True, proxy=True),
    Peer("ours-login", f"{_OURS}, login", _own, _written(_closed), login=True, two_ports=True),
    Peer(
        "ours-relaxed",
        f"{_OURS}, durable: false",
        _own,
        _written(_relaxed),
        two_ports=True,
        only=frozenset({"push-patch", "push-whole", "image", "manifest-put", "small-blob"}),
    ),
    Peer("distribution-2.8", _TWO, _serve("docker-registry"), _written(_distribution), proxy=True),
    Peer(
        "distribution-2.8-login",
        f"{_TWO}, htpasswd",
        _serve("docker-registry"),
        _written(_distribution_login),
        login=True,
        slow=5,
        only=frozenset({"manifest-get", "blob-head"}),
    ),
    Peer("distribution-3", _THREE, _serve("registry"), _written(_distribution), proxy=True),
    Peer("zuul-registry", "zuul-registry", _zuul_command, _written(_zuul_registry), login=True),
    Peer("nginx", "nginx, files", nginx_command, nginx, files=True),
]
NAMES = [peer.name for peer in PEERS]
