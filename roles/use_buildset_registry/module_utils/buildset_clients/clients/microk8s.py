# SPDX-License-Identifier: Apache-2.0
"""MicroK8s: the folder of hosts.toml files that it has its containerd read at every pull.

Its containerd has the environment of a file of shell, over that which snapd gives all services.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from .. import proxies, units
from ..edits import TEXT, Edit
from ..formats import hosts_toml
from ..formats.hosts_toml import HostFolders
from ..node import ManagedNode
from ..registry import RegistryFacts, Setup

UNIT = "snap.microk8s.daemon-containerd"
_ARGUMENTS = "/var/snap/microk8s/current/args"
FOLDER = f"{_ARGUMENTS}/certs.d"
_ENVIRONMENT = f"{_ARGUMENTS}/containerd-env"
_OF_SNAPS = "/etc/environment"


def edits(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Write the folder, and have the registry asked without a proxy."""
    made = hosts_toml.edits("microk8s", HostFolders(node, FOLDER), setup)
    shared = units.variables(node, _OF_SNAPS)
    rewrite = partial(_bypassing, setup.registry, shared)
    if node.exists(_ENVIRONMENT) or rewrite(None):
        made.append(Edit("microk8s", _ENVIRONMENT, TEXT, rewrite, action="restart"))
    return made


def _bypassing(registry: RegistryFacts, shared: Mapping[str, str], before: bytes | None) -> bytes:
    """Add the registry to NO_PROXY at the end of the file, where a proxy is in the way."""
    content = before or b""
    own = units.assigned(content.decode("utf-8", "replace").splitlines())
    known = proxies.Environment(_ENVIRONMENT, {**shared, **own})
    if not any(map(known.through, registry.addresses)):
        return content
    line = f'{proxies.NO_PROXY}="{known.with_direct(proxies.hosts(registry))}"'
    return units.appending(line)(before)
