# SPDX-License-Identifier: Apache-2.0
"""Registries and the servers that docker asks for their images; pure."""

from __future__ import annotations

from collections.abc import Iterable

from buildset_registry.oci.hosts import DOCKER_HUB, HTTPS, RegistryHost

#: What docker asks for the images of Docker Hub.
_DOCKER_HUB_SERVER = "registry-1.docker.io"

#: A host in its normal form, and a port.
Server = tuple[str, int]


def server_of(registry: RegistryHost) -> Server:
    """Return the server that docker asks for the images of a registry."""
    return (_DOCKER_HUB_SERVER, HTTPS) if registry == DOCKER_HUB else registry.server


def certificate_names(registries: Iterable[RegistryHost]) -> list[str]:
    """Return the names that a certificate for these registries has to be good for."""
    return sorted({server_of(registry)[0] for registry in registries})
