# SPDX-License-Identifier: Apache-2.0
"""The registry as its facts tell it, and the registries that it stands in for."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field

DOCKER_HUB = "docker.io"


@dataclass(frozen=True)
class Registry:
    """The facts. docker and skopeo refuse IPv6 literals: the alias stands for one."""

    host: str
    port: int
    push_host: str
    push_port: int
    username: str
    password: str = field(repr=False)
    cert: str
    alias: str
    proxy_port: int = 0
    """Where docker gets to every registry, if there is such an endpoint."""

    @property
    def proxy(self) -> str:
        """The proxy for docker as ``host:port``; empty where there is none."""
        return f"{self._name(self.host)}:{self.proxy_port}" if self.proxy_port else ""

    @property
    def pull(self) -> str:
        """The pull endpoint as ``host:port``."""
        return f"{self._name(self.host)}:{self.port}"

    @property
    def push(self) -> str:
        """The push endpoint as ``host:port``."""
        return f"{self._name(self.push_host)}:{self.push_port}"

    @property
    def addresses(self) -> list[str]:
        """Both endpoints, or the one that there is."""
        return list(dict.fromkeys([self.pull, self.push]))

    @property
    def literals(self) -> list[str]:
        """The IPv6 literals that the alias stands for."""
        return list(dict.fromkeys(host for host in (self.host, self.push_host) if ":" in host))

    @property
    def login(self) -> str:
        """User name and password as HTTP basic authentication writes them."""
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    @property
    def certificate(self) -> bytes:
        """The certificate as a file holds it."""
        return self.cert.strip().encode() + b"\n"

    def _name(self, host: str) -> str:
        return self.alias if ":" in host else host


@dataclass(frozen=True)
class Namespace:
    """A registry that images are named after, and where its API is."""

    name: str
    url: str

    @property
    def path(self) -> str:
        """How the name begins a path: a port has no colon there."""
        return re.sub(r":(\d+)$", r"__\1", self.name)


@dataclass(frozen=True)
class Wanted:
    """What a node is to be told."""

    registry: Registry
    namespaces: tuple[Namespace, ...]
    unqualified: tuple[str, ...] = ()
