# SPDX-License-Identifier: Apache-2.0
"""Registries and the servers that docker asks for their images; pure."""

from __future__ import annotations

from collections.abc import Iterable

from buildset_registry.oci.names import DOCKER_HUB

HTTPS = 443
#: What docker asks for the images of Docker Hub.
_DOCKER_HUB_SERVER = "registry-1.docker.io"

#: A host in small letters, and a port.
Server = tuple[str, int]


def server_of(registry: str) -> Server:
    """Return the server of a registry, which is named as images name it: with a port or without."""
    name = registry.lower()
    if name == DOCKER_HUB:
        return _DOCKER_HUB_SERVER, HTTPS
    host, separator, port = name.rpartition(":")
    if separator and port.isdecimal():
        return host, int(port)
    return name, HTTPS


def certificate_names(registries: Iterable[str]) -> list[str]:
    """Return the names that a certificate for these registries has to be good for."""
    return sorted({server_of(registry)[0] for registry in registries})
