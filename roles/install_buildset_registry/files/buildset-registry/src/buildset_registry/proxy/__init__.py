# SPDX-License-Identifier: Apache-2.0
"""The proxy for docker: ``CONNECT``, answered by the registry itself for registries that it holds.

docker's ``registry-mirrors`` stand for Docker Hub alone. As the HTTPS proxy of dockerd, the
registry gets every connection that docker makes to a registry, and no other program's: for the
registries of its configuration it is the server, with a certificate for their names that docker
alone trusts; to every other host it opens a tunnel.
"""

from buildset_registry.proxy.door import Door
from buildset_registry.proxy.proxy import LOOPBACK, Bounds, Proxy, Within
from buildset_registry.proxy.reach import Reach
from buildset_registry.proxy.registries import Server, certificate_names, server_of
from buildset_registry.proxy.visitors import Inside, Visitors

__all__ = [
    "LOOPBACK",
    "Bounds",
    "Door",
    "Inside",
    "Proxy",
    "Reach",
    "Server",
    "Visitors",
    "Within",
    "certificate_names",
    "server_of",
]
