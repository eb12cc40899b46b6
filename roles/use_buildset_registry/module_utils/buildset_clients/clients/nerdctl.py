# SPDX-License-Identifier: Apache-2.0
"""nerdctl: the folders of hosts.toml files that it looks into itself, whatever its daemon has.

Without root it has folders below the home, and a containerd of the user's own.
"""

from __future__ import annotations

import os

from ..edits import Edit
from ..errors import ClientError
from ..formats import hosts_toml, toml
from ..formats.hosts_toml import CERTS_D, HostFolders
from ..node import ManagedNode
from ..registry import Setup

_FOLDERS = "hosts_dir"


def edits(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Write the first of the folders."""
    return hosts_toml.edits("nerdctl", HostFolders(node, ":".join(_folders(node))), setup)


def _folders(node: ManagedNode) -> list[str]:
    home = f"{node.me.home}/.config"
    usual = "/etc/nerdctl" if node.is_root else f"{home}/nerdctl"
    path = os.environ.get("NERDCTL_TOML") or f"{usual}/nerdctl.toml"
    named = toml.read(node, path).get(_FOLDERS) or []
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        hint = f'write {_FOLDERS} = ["{CERTS_D}"] there'
        raise ClientError(f"{path}: {_FOLDERS} is no list of texts; {hint}, nothing was changed")
    if node.is_root:
        return named or [CERTS_D, "/etc/docker/certs.d"]
    return named or [f"{home}/containerd/certs.d", f"{home}/docker/certs.d"]
