# SPDX-License-Identifier: Apache-2.0
"""The CONNECT proxy for docker, answered by the registry itself for registries that it holds.

docker's ``registry-mirrors`` stand for Docker Hub alone. As the HTTPS proxy of dockerd, the
registry gets every connection that docker makes to a registry, and no other program's: for the
registries of its configuration it is the server, with a certificate for their names that docker
alone trusts; to every other host it opens a tunnel.
"""

from buildset_registry.connect_proxy.connect import Admission
from buildset_registry.connect_proxy.dialer import Dialer
from buildset_registry.connect_proxy.hosts import Server, certificate_names, server_of
from buildset_registry.connect_proxy.loopback import LoopbackApp, ProxiedConnections
from buildset_registry.connect_proxy.proxy import LOOPBACK, ConnectProxy, Limits, LoopbackEndpoint

__all__ = [
    "LOOPBACK",
    "Admission",
    "ConnectProxy",
    "Dialer",
    "Limits",
    "LoopbackApp",
    "LoopbackEndpoint",
    "ProxiedConnections",
    "Server",
    "certificate_names",
    "server_of",
]
