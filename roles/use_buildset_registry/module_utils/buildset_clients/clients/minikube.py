# SPDX-License-Identifier: Apache-2.0
"""minikube: hosts.toml files that it copies into the nodes which it starts."""

from __future__ import annotations

from ..edits import Edit
from ..formats import hosts_toml
from ..node import ManagedNode
from ..registry import Setup


def edits(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Write the folder that stands for the one of its nodes."""
    folder = f"{node.me.home}/.minikube/files{hosts_toml.CERTS_D}"
    return hosts_toml.edits("minikube", folder, setup, seen=hosts_toml.CERTS_D)
