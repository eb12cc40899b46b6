# SPDX-License-Identifier: Apache-2.0
"""minikube: hosts.toml files that it copies into the nodes which it starts."""

from __future__ import annotations

import os
from pathlib import Path

from ..edits import Edit
from ..formats import hosts_toml
from ..formats.hosts_toml import CERTS_D, HostFolders
from ..node import ManagedNode
from ..registry import Setup


def edits(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Write the folder that stands for the one of its nodes."""
    home = os.environ.get("MINIKUBE_HOME") or node.me.home
    place = home if Path(home).name == ".minikube" else f"{home}/.minikube"
    folder = f"{place}/files{CERTS_D}"
    return hosts_toml.edits("minikube", HostFolders(node, folder, CERTS_D), setup)
