# SPDX-License-Identifier: Apache-2.0
"""MicroK8s: the folder of hosts.toml files that it has its containerd read at every pull."""

from __future__ import annotations

from ..edits import Edit
from ..formats import hosts_toml
from ..formats.hosts_toml import HostFolders
from ..node import ManagedNode
from ..registry import Setup

FOLDER = "/var/snap/microk8s/current/args/certs.d"


def edits(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Write the folder."""
    return hosts_toml.edits("microk8s", HostFolders(node, FOLDER), setup)
