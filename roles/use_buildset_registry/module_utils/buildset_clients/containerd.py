# SPDX-License-Identifier: Apache-2.0
"""containerd 1.6 to 2: the folder of hosts.toml files, and the setting that makes it read them.

CRI goes by the setting. The transfer service of containerd 2 has one as well, but that of 2.4 reads
the folder which its client names, as ctr of every version does by --hosts-dir. hosts.toml files are
read at every pull, the setting at the start of the daemon only.
"""

from __future__ import annotations

from typing import Any

from . import hoststoml, tomltext
from .edits import TEXT, Change, Edit
from .errors import ClientError
from .node import Node
from .registry import Wanted

_SETTINGS = "/etc/containerd/config.toml"
_FOLDER = "/etc/containerd/certs.d"
#: Where each version of the file has the images' registries.
_IMAGES = {
    1: ["plugins", "cri", "registry"],
    2: ["plugins", "io.containerd.grpc.v1.cri", "registry"],
    3: ["plugins", "io.containerd.cri.v1.images", "registry"],
}
_TRANSFER = ["plugins", "io.containerd.transfer.v1.local"]
#: What a file has that has no version is version 1; a new one is written for the daemon there is.
_OLDEST, _NEWEST = 1, 3
_PATH = "config_path"


def edits(node: Node, wanted: Wanted, major: int) -> list[Edit]:
    """Configure the daemon of a major version."""
    folder = hosts_folder(node)
    settings = Edit("containerd", _SETTINGS, TEXT, reading(folder, major), action="restart")
    return [settings, *hoststoml.edits("containerd", folder, wanted)]


def hosts_folder(node: Node) -> str:
    """Tell where the daemon has its hosts.toml files, or is to have them."""
    content = node.real(_SETTINGS).read_bytes() if node.exists(_SETTINGS) else None
    return configured_folder(tomltext.load(content, _SETTINGS)) or _FOLDER


def configured_folder(tree: dict[str, Any]) -> str:
    """Tell the folder that a configuration names, the first of several; nothing if none."""
    named = tomltext.get(tree, _images(tree)).get(_PATH) or ""
    return str(named).partition(":")[0]


def _images(tree: dict[str, Any]) -> list[str]:
    version = tree.get("version", _OLDEST)
    if version not in _IMAGES:
        hint = "this role knows the versions 1 to 3"
        raise ClientError(f"{_SETTINGS}: version {version} of the file; {hint}")
    return _IMAGES[version]


def reading(folder: str, major: int) -> Change:
    """Return what makes a configuration read a folder."""

    def change(before: bytes | None) -> bytes:
        tree = tomltext.load(before, _SETTINGS)
        content = before or b""
        if not tree:
            version = _NEWEST if major >= 2 else 2
            content = tomltext.put(content, [], "version", version, _SETTINGS)
            tree = {"version": version}
        table = _images(tree)
        _refuse(tomltext.get(tree, table))
        if not configured_folder(tree):
            content = tomltext.put(content, table, _PATH, folder, _SETTINGS)
        transfer = tomltext.get(tree, _TRANSFER)
        if tree.get("version") == _NEWEST and not transfer.get(_PATH):
            content = tomltext.put(content, _TRANSFER, _PATH, folder, _SETTINGS)
        return content

    return change


def _refuse(registry: dict[str, Any]) -> None:
    """containerd does not start its CRI plugin with both the older settings and the folder."""
    configs = registry.get("configs", {}).values()
    older = [name for name in ("mirrors",) if registry.get(name)]
    older += ["configs.*.tls"] if any("tls" in one for one in configs) else []
    if older:
        hint = f"move it to hosts.toml files in {_FOLDER}"
        raise ClientError(
            f"{_SETTINGS}: has registry.{older[0]}, which excludes config_path; {hint}"
        )
