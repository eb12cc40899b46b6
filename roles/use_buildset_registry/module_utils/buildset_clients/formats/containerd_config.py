# SPDX-License-Identifier: Apache-2.0
"""containerd's config.toml, and the files that it imports: which of them has the last word.

Each is merged over those before it. Up to containerd 1.7 a plugin's table takes the place of the
whole table of an earlier file, from 2.0 on its keys take that of the earlier keys. With both, what
is written for a plugin has to be in the last file that has its table.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files
from ..errors import ClientError, taking
from ..node import ManagedNode
from . import toml
from .hosts_toml import CERTS_D

PATH = "config_path"
#: The table of the images' registries in each version of the file.
_IMAGES = {
    1: ["plugins", "cri", "registry"],
    2: ["plugins", "io.containerd.grpc.v1.cri", "registry"],
    3: ["plugins", "io.containerd.cri.v1.images", "registry"],
    4: ["plugins", "io.containerd.cri.v1.images", "registry"],
}
_TRANSFER = ["plugins", "io.containerd.transfer.v1.local"]
#: A file that names no version is of version 1; a new one is written for the daemon there is.
_OLDEST, _NEWEST = min(_IMAGES), max(_IMAGES)
_WITH_TRANSFER = 3


@dataclass(frozen=True)
class Part:
    """One of the files, and the version by which its tables are named."""

    path: str
    tree: dict[str, Any]
    version: int

    @property
    def images(self) -> list[str]:
        """The table of the images' registries."""
        return _IMAGES[self.version]

    @property
    def registry(self) -> dict[str, Any]:
        """The settings in that table."""
        return dict(toml.get(self.tree, self.images))

    def has(self, plugin: str) -> bool:
        """Tell whether it has a plugin's table, be it an empty one."""
        with taking(self.path, "the daemon"):
            return plugin in toml.get(self.tree, ["plugins"])


@dataclass(frozen=True)
class Configuration:
    """All of the files, in the order in which they are read."""

    parts: list[Part]
    major: int
    """The major version of the daemon."""

    @property
    def config_path(self) -> str:
        """The folders of hosts.toml files: where none is set, those are for us to name."""
        named = [str(part.registry[PATH]) for part in self.parts if part.registry.get(PATH)]
        return named[-1] if named else CERTS_D

    def tables(self) -> dict[str, list[list[str]]]:
        """Tell the tables in which the folder is to be named, by their files."""
        last = self._last([table[1] for table in _IMAGES.values()])
        transfer = self._last(_TRANSFER[1:])
        found = {last.path: [last.images]}
        if transfer.version >= _WITH_TRANSFER:
            found.setdefault(transfer.path, []).append(_TRANSFER)
        return found

    def _last(self, plugins: list[str]) -> Part:
        """Find the last file that has the table of one of these plugins."""
        having = [part for part in self.parts if any(map(part.has, plugins))]
        return (having or self.parts[:1])[-1]

    def check(self) -> None:
        """Refuse what would have CRI not start, or not read the folders."""
        for part in self.parts:
            with taking(part.path, "the daemon"):
                _refuse_older(part)
            images = toml.get(part.tree, part.images[:2])
            several = ":" in str(part.registry.get(PATH) or "")
            if self.major >= 2 and several and not images.get("use_local_image_pull"):
                hint = "name one folder there, or set use_local_image_pull = true beside registry"
                what = "containerd 2 reads none of them where its transfer service pulls for CRI"
                raise ClientError(f"{part.path}: {PATH} names several folders, and {what}; {hint}")


def _refuse_older(part: Part) -> None:
    """containerd does not start its CRI plugin with both the older settings and the folder."""
    configs = part.registry.get("configs") or {}
    older = [name for name in ("mirrors",) if part.registry.get(name)]
    older += ["configs.*.tls"] if any("tls" in one for one in configs.values()) else []
    if older:
        hint = f"move it to hosts.toml files in {CERTS_D}"
        raise ClientError(f"{part.path}: has registry.{older[0]}, which excludes {PATH}; {hint}")


def read(node: ManagedNode, path: str, major: int) -> Configuration:
    """Read a file of a daemon and all that it imports, each of them once."""
    content = files.read(node.real(path)) if node.exists(path) else None
    tree = toml.load(content, path)
    new = _WITH_TRANSFER if major >= 2 else 2
    version = _version(path, tree, _OLDEST if tree else new)
    parts = [Part(path, tree, version)]
    pending = _imports(node, parts[0], major)
    while pending:
        name = pending.pop(0)
        if name not in [part.path for part in parts] and node.exists(name):
            tree = toml.read(node, name)
            parts.append(Part(name, tree, _version(name, tree, _implied(tree, version))))
            pending += _imports(node, parts[-1], major)
    return Configuration(parts, major)


def _version(path: str, tree: dict[str, Any], otherwise: int) -> int:
    named = tree.get("version", otherwise)
    if isinstance(named, bool) or not isinstance(named, int):
        raise ClientError(f"{path}: version is {named!r}, which is no number; write version = 2")
    if named not in _IMAGES:
        hint = f"this role knows the versions {_OLDEST} to {_NEWEST}; write the file in one of them"
        raise ClientError(f"{path}: version {named} of the file; {hint}")
    return named


def _implied(tree: dict[str, Any], otherwise: int) -> int:
    """Tell the version that the tables of an imported file are of, which need not name it."""
    plugins = toml.get(tree, ["plugins"])
    having = [version for version, table in _IMAGES.items() if table[1] in plugins]
    return min(having, default=otherwise)


def _imports(node: ManagedNode, part: Part, major: int) -> list[str]:
    """Return the files that one imports; a name is relative to its folder.

    containerd 1 takes a pattern as relative to where it runs, which is / under systemd."""
    found: list[str] = []
    imports = part.tree.get("imports") or []
    for name in [imports] if isinstance(imports, str) else imports:
        is_pattern = "*" in str(name)
        base = "/" if is_pattern and major < 2 else Path(part.path).parent
        whole = os.path.normpath(Path(base, str(name)))
        matches = sorted(_glob(node, whole)) if is_pattern else [whole]
        found += matches
    return found


def _glob(node: ManagedNode, pattern: str) -> list[str]:
    try:
        found = list(node.root.glob(pattern.lstrip("/")))
    except ValueError as error:
        raise ClientError(
            f"{pattern}: no pattern that can be followed ({error}); mend imports"
        ) from error
    return [str(Path("/") / path.relative_to(node.root)) for path in found if path.is_file()]


def naming(content: bytes, part: Part, tables: list[list[str]], config_path: str) -> bytes:
    """Name the folders in these tables of a file, unless there are some."""
    tree = toml.load(content, part.path)
    if not tree:
        content = toml.put(content, [], "version", part.version, part.path)
    for table in tables:
        # The transfer service takes one folder.
        value = config_path.partition(":")[0] if table == _TRANSFER else config_path
        if not toml.get(tree, table).get(PATH):
            content = toml.put(content, table, PATH, value, part.path)
    return content


def in_effect(told: bytes) -> str:
    """Tell the folders by what ``containerd config dump`` tells."""
    tree = toml.load(told, "containerd config dump")
    for table in reversed(list(_IMAGES.values())):
        if toml.get(tree, table):
            return str(toml.get(tree, table).get(PATH) or "")
    return ""
