# SPDX-License-Identifier: Apache-2.0
"""Registries as variables and artifacts name them: host, port, credentials, certificate."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import ImagesError, shown

HTTPS_PORT = 443
#: Docker Hub has its API elsewhere than where images name it.
HUB, HUB_API = "docker.io", "registry-1.docker.io"
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?", re.IGNORECASE)


@dataclass(frozen=True)
class Login:
    """How a registry is used: who asks, what verifies it, and where it is if not by its name."""

    username: str = ""
    password: str = field(default="", repr=False)
    cert: str = field(default="", repr=False)
    #: An address to connect to, where the name does not resolve. The name is what is verified.
    address: str = ""


@dataclass(frozen=True)
class Endpoint:
    """A registry's host and port; two are equal whichever way they are written."""

    host: str
    port: int = HTTPS_PORT

    @classmethod
    def make(cls, host: Any, port: Any, whose: str) -> Endpoint:
        """Check what a variable has; ImagesError names it."""
        number = int(port) if str(port).isdigit() else 0
        if not 0 < number < 65536:
            raise ImagesError(f"{whose}: port is {shown(port)}; give a TCP port")
        return cls(_host(str(host), whose), number)

    @classmethod
    def parse(cls, text: str, whose: str) -> Endpoint:
        """Read ``host``, ``host:port`` or ``[IPv6]:port``."""
        found = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::(\d{1,5}))?", text)
        if not found:
            raise ImagesError(f"{whose}: {shown(text)} is no host of a registry")
        host = HUB_API if found[1].lower() == HUB else found[1]
        return cls.make(host, found[2] or HTTPS_PORT, whose)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _host(text: str, whose: str) -> str:
    """Return a host in one form: no brackets, no capitals, an address as it is written shortest."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        if _HOST.fullmatch(bare):
            return bare.lower()
    raise ImagesError(f"{whose}: host is {shown(text)}; give a name or an address")


def login_of(given: Mapping[str, Any]) -> Login:
    """Take the keys of a registry that say how it is used."""
    keys = ("username", "password", "cert", "address")
    return Login(**{key: str(given.get(key) or "") for key in keys})


def push_endpoint(facts: Mapping[str, Any]) -> Endpoint:
    """Return where a buildset registry holds what was pushed, and nothing else.

    Facts of a registry with one port, such as those of zuul-jobs' roles, have no other.
    """
    host, port = (facts.get(f"push_{key}") or facts.get(key) for key in ("host", "port"))
    return Endpoint.make(host, port, "buildset_registry")
