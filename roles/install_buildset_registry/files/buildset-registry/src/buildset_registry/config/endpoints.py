# SPDX-License-Identifier: Apache-2.0
"""The settings of what listens: the endpoints, the proxy for docker, the listener for operators."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from buildset_registry.oci.hosts import RegistryHost


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One listener."""

    port: int
    """TCP port."""

    address: str | None = None
    """Address to listen on; by default every address, IPv6 too where the host has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The endpoints: pull (read-only) and push, or one ``single`` port for both."""

    pull: Endpoint | None = None
    push: Endpoint | None = None
    single: Endpoint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The server's certificate."""

    certificate: Path
    """PEM file: the certificate and what it was signed by."""

    key: Path
    """PEM file: its private key (PKCS#8, PKCS#1 or SEC 1), readable by the server only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """The listener for operators: metrics and health, in plain HTTP, without a login."""

    port: int
    """TCP port."""

    address: str = "127.0.0.1"
    """Address to listen on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """An HTTPS proxy for docker: the registry itself is the server of some registries."""

    port: int
    """TCP port."""

    tls: Tls
    """A certificate for the names of these registries, which docker is to trust."""

    address: str | None = None
    """Address to listen on; by default every address, IPv6 too where the host has it."""

    registries: tuple[RegistryHost, ...] | None = None
    """The registries, as images name them; by default all upstreams but Docker Hub, for which
    docker has ``registry-mirrors``."""

    ports: tuple[int, ...] = (443,)
    """Ports of other servers that tunnels may lead to."""

    tunnels: int = 256
    """Tunnels at once; another one gets 503."""

    idle_seconds: int = 900
    """For how long nothing may go through a tunnel before it ends."""
