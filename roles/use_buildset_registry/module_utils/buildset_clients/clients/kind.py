# SPDX-License-Identifier: Apache-2.0
"""kind: hosts.toml files, and a configuration of clusters whose nodes have them mounted."""

from __future__ import annotations

import json

from ..edits import Edit, own
from ..formats import hosts_toml
from ..formats.hosts_toml import CERTS_D, HostFolders
from ..node import ManagedNode
from ..registry import Setup


def edits(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Write the folder, and a file for ``kind create cluster --config``."""
    folder = f"{node.me.home}/.config/kind-buildset-registry"
    cluster = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "containerdConfigPatches": [
            f'[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "{CERTS_D}"\n'
        ],
        "nodes": [
            {
                "role": "control-plane",
                "extraMounts": [{"hostPath": f"{folder}/certs.d", "containerPath": CERTS_D}],
            }
        ],
    }
    text = json.dumps(cluster, indent=2) + "\n"
    made = hosts_toml.edits("kind", HostFolders(node, f"{folder}/certs.d", CERTS_D), setup)
    return [own("kind", f"{folder}/cluster.yaml", text.encode()), *made]
