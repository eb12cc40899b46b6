# SPDX-License-Identifier: Apache-2.0
"""Registries as variables and artifacts name them: host, port, credentials, certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import ImagesError, shown
from .registry_client.errors import RegistryError
from .registry_client.oci.hosts import RegistryHost


@dataclass(frozen=True)
class Login:
    """The way to use a registry: who asks, what verifies it, where it is if not by its name."""

    username: str = ""
    password: str = field(default="", repr=False)
    #: What is had instead of these: a token for single images.
    token: str = field(default="", repr=False)
    cert: str = field(default="", repr=False)
    #: An address to connect to, where the name does not resolve. The name is what is verified.
    address: str = ""


def registry_host(host: Any, port: Any, whose: str) -> RegistryHost:
    """Return what a variable has as a host and a port; ImagesError names it."""
    name = str(host)
    name = f"[{name}]" if ":" in name and not name.startswith("[") else name
    if not str(port).isdigit():
        raise ImagesError(f"{whose}: port is {shown(port)}; give a TCP port")
    return parse_host(f"{name}:{port}", whose)


def parse_host(text: str, whose: str) -> RegistryHost:
    """Read ``host``, ``host:port`` or ``[IPv6]:port``; ImagesError says whose it is."""
    try:
        return RegistryHost.parse(text)
    except RegistryError as error:
        raise ImagesError(
            f"{whose}: {shown(text)} is no registry; give host or host:port"
        ) from error


def written(host: RegistryHost) -> str:
    """Return host and port as artifacts have them, the port of HTTPS as well."""
    name, port = host.server
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def login_of(given: Mapping[str, Any]) -> Login:
    """Take the keys of a registry that say how it is used; an IPv6 address may have brackets."""
    keys = ("username", "password", "cert", "address")
    taken = {key: str(given.get(key) or "") for key in keys}
    return Login(**{**taken, "address": taken["address"].strip("[]")})


def push_endpoint(facts: Mapping[str, Any]) -> RegistryHost:
    """Return where a buildset registry holds what was pushed, and nothing else.

    Facts of a registry with one port, such as those of zuul-jobs' roles, have no other.
    """
    host, port = (facts.get(f"push_{key}") or facts.get(key) for key in ("host", "port"))
    return registry_host(host, port, "buildset_registry")
