# SPDX-License-Identifier: Apache-2.0
"""containerd 1.6 to 2: the folder of hosts.toml files, and the setting that makes it read them.

CRI goes by the setting. The transfer service of containerd 2 has one as well, but that of 2.4 reads
the folder which its client names, as ctr of every version does by --hosts-dir. hosts.toml files are
read at every pull, the setting at the start of the daemon only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..canary.image import Image
from ..edits import TEXT, Edit, Rewrite
from ..errors import ClientError
from ..formats import hosts_toml, toml
from ..node import ManagedNode
from ..registry import Namespace, Setup
from .base import PullError, Tool

_SETTINGS = "/etc/containerd/config.toml"
#: The table of the images' registries in each version of the file.
_IMAGES = {
    1: ["plugins", "cri", "registry"],
    2: ["plugins", "io.containerd.grpc.v1.cri", "registry"],
    3: ["plugins", "io.containerd.cri.v1.images", "registry"],
}
_TRANSFER = ["plugins", "io.containerd.transfer.v1.local"]
#: A file that names no version is of version 1; a new one is written for the daemon there is.
_OLDEST, _NEWEST = 1, 3
_PATH = "config_path"
#: The namespace of containerd in which the canary is.
_SPACE = "buildset-registry-canary"


def edits(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Configure the daemon of the version that the node has."""
    folder = hosts_folder(node)
    rewrite = reading(folder, node.major("containerd"))
    settings = Edit("containerd", _SETTINGS, TEXT, rewrite, action="restart")
    return [settings, *hosts_toml.edits("containerd", folder, setup)]


def hosts_folder(node: ManagedNode) -> str:
    """Tell where the daemon has its hosts.toml files, or is to have them."""
    content = node.real(_SETTINGS).read_bytes() if node.exists(_SETTINGS) else None
    return configured_folder(toml.load(content, _SETTINGS)) or hosts_toml.CERTS_D


def configured_folder(tree: dict[str, Any]) -> str:
    """Tell the folder that a configuration names, the first of several; nothing if none."""
    named = toml.get(tree, _images(tree)).get(_PATH) or ""
    return str(named).partition(":")[0]


def _images(tree: dict[str, Any]) -> list[str]:
    version = tree.get("version", _OLDEST)
    if not isinstance(version, int):
        hint = "write it without quotes, as version = 2; nothing was changed"
        raise ClientError(f"{_SETTINGS}: version is no whole number; {hint}")
    if version not in _IMAGES:
        hint = "this role knows the versions 1 to 3"
        raise ClientError(f"{_SETTINGS}: version {version} of the file; {hint}")
    return _IMAGES[version]


def reading(folder: str, major: int) -> Rewrite:
    """Return what makes a configuration read a folder."""

    def rewrite(before: bytes | None) -> bytes:
        tree = toml.load(before, _SETTINGS)
        content = before or b""
        if not tree:
            version = _NEWEST if major >= 2 else 2
            content = toml.put(content, [], "version", version, _SETTINGS)
            tree = {"version": version}
        table = _images(tree)
        _refuse(toml.get(tree, table))
        if not configured_folder(tree):
            content = toml.put(content, table, _PATH, folder, _SETTINGS)
        transfer = toml.get(tree, _TRANSFER)
        if tree.get("version") == _NEWEST and not transfer.get(_PATH):
            content = toml.put(content, _TRANSFER, _PATH, folder, _SETTINGS)
        return content

    return rewrite


def _refuse(registry: dict[str, Any]) -> None:
    """containerd does not start its CRI plugin with both the older settings and the folder."""
    configs = registry.get("configs", {}).values()
    older = [name for name in ("mirrors",) if registry.get(name)]
    older += ["configs.*.tls"] if any("tls" in one for one in configs) else []
    if older:
        hint = f"move it to hosts.toml files in {hosts_toml.CERTS_D}"
        raise ClientError(
            f"{_SETTINGS}: has registry.{older[0]}, which excludes config_path; {hint}"
        )


@dataclass(frozen=True)
class Ctr(Tool):
    """ctr. That of version 1 does not read the daemon's configuration: it is told the folder."""

    program = "ctr"
    folder: str = ""
    """The folder of hosts.toml files that the daemon is configured to read."""

    @classmethod
    def connect(cls, path: str, node: ManagedNode, setup: Setup) -> Tool | None:
        """Learn whether the daemon answers."""
        try:
            cls(path, node).run("version")
        except PullError:
            return None
        return cls(path, node, folder=hosts_folder(node))

    def pull(self, image: Image, names: Sequence[str]) -> list[str]:
        """Fetch each of them into a namespace of their own, which is removed."""
        space = ["--namespace", _SPACE]
        for name in names:
            self.run(*space, "content", "fetch", "--hosts-dir", self.folder, name)
        lines = self.run(*space, "images", "list").decode().splitlines()[1:]
        self.run(*space, "images", "rm", "--sync", *names)
        self.run("namespaces", "rm", _SPACE)
        found = {line.split()[0]: line.split()[2] for line in lines}
        return [found.get(name, "") for name in names]

    def in_effect(self, namespace: Namespace) -> tuple[str, list[str]]:
        """Read the registry's hosts.toml."""
        return hosts_toml.in_effect(self.node, self.folder, namespace)

    def authorities(self, namespace: Namespace, address: str) -> tuple[str, list[Path]]:
        """Read those that the registry's hosts.toml names."""
        return hosts_toml.authorities(self.node, self.folder, namespace, address)
