# SPDX-License-Identifier: Apache-2.0
"""The registry as its facts tell it, and the registries that it stands in for."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from .namespaces import normal

DOCKER_HUB = "docker.io"
#: The name that the registry's certificate has in every folder of certificates.
CERTIFICATE_FILE = "buildset-registry.crt"

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


@dataclass(frozen=True)
class RegistryFacts:
    """The facts. docker and skopeo refuse IPv6 literals: the alias stands for one.

    zuul-jobs' roles push to the alias wherever the host is an address, of IPv4 too."""

    host: str
    port: int
    push_host: str
    push_port: int
    username: str
    password: str = field(repr=False)
    cert: str
    alias: str
    proxy_port: int = 0
    """The port by which docker gets to every registry; 0 where there is no such endpoint."""

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
    def pulls(self) -> list[str]:
        """The pull endpoint by each name that the configuration of clients may have for it."""
        return list(dict.fromkeys([self.pull, *self._aliased(self.host, self.port)]))

    @property
    def pushes(self) -> list[str]:
        """The push endpoint by each of them."""
        return list(dict.fromkeys([self.push, *self._aliased(self.push_host, self.push_port)]))

    @property
    def addresses(self) -> list[str]:
        """Both endpoints, or the one that there is, by each of these names."""
        return list(dict.fromkeys([self.pull, self.push, *self.pulls, *self.pushes]))

    @property
    def logins(self) -> list[str]:
        """The names that credentials are for; those with an IPv6 literal are some clients' own."""
        ends = ((self.host, self.port), (self.push_host, self.push_port))
        literal = [f"[{host}]:{port}" for host, port in ends if ":" in host]
        return list(dict.fromkeys([*self.addresses, *literal]))

    @property
    def literals(self) -> list[str]:
        """The addresses that the alias stands for."""
        hosts = [host for host in (self.host, self.push_host) if ip_address(host)]
        return list(dict.fromkeys(hosts)) if self.alias else []

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

    def _aliased(self, host: str, port: int) -> list[str]:
        return [f"{self.alias}:{port}"] if host in self.literals else []


def ip_address(host: str) -> Address | None:
    """Read an IP address, less the zone of one of IPv6; nothing where it is a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0] if ":" in host else host)
    except ValueError:
        return None


@dataclass(frozen=True)
class Namespace:
    """A registry that images are named after, and where its API is."""

    name: str
    url: str

    @property
    def path(self) -> str:
        """The name as it begins a path: a port has no colon there."""
        return re.sub(r":(\d+)$", r"__\1", self.name)


@dataclass(frozen=True)
class Setup:
    """A registry, the ones that it stands in for, and those to look in for a short name."""

    registry: RegistryFacts
    namespaces: tuple[Namespace, ...]
    unqualified: tuple[str, ...] = ()
    relaxed: bool = False
    """Whether policies are to take images of these registries without signatures."""

    @classmethod
    def read(
        cls,
        facts: Mapping[str, Any],
        alias: str,
        namespaces: list[list[str]],
        unqualified: list[str],
    ) -> Setup:
        """Read what a module is given."""
        host, port = str(facts["host"]), int(facts["port"])
        push_host, push_port = facts.get("push_host") or host, facts.get("push_port") or port
        registry = RegistryFacts(
            host=host,
            port=port,
            push_host=str(push_host),
            push_port=int(push_port),
            username=str(facts["username"]),
            password=str(facts["password"]),
            cert=str(facts["cert"]),
            alias=alias,
            proxy_port=int(facts.get("proxy_port") or 0),
        )
        known = tuple(Namespace(name, url) for name, url in normal(namespaces))
        return cls(registry, known, tuple(unqualified))
