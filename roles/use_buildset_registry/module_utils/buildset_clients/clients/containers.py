# SPDX-License-Identifier: Apache-2.0
"""podman, buildah, skopeo and cri-o: a drop-in of registries.conf, and trust in certs.d.

containers-registries.conf.d(5): drop-ins are read by name, and the last one that has a registry
has it as a whole. What the node has set for a registry is therefore repeated in ours, with the
buildset registry as its first mirror. A user's drop-ins come after the system's.
"""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import files, proxies
from ..canary.image import Image, digest_of
from ..edits import Edit, own
from ..errors import ClientError
from ..formats import certs_d, toml
from ..node import ManagedNode
from ..registry import Namespace, RegistryFacts, Setup
from .base import Tool

#: Sorts after what distributions and people are likely to have there.
NAME = "999-buildset-registry.conf"


def edits(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Configure everything that reads containers' files."""
    folder = base(node)
    text = drop_in(setup, registries(node), unqualified=setup.unqualified)
    path = f"{folder}/registries.conf.d/{NAME}"
    made = [own("containers", path, text.encode(), action="reload")]
    return made + certs_d.edits("containers", f"{folder}/certs.d", setup.registry)


def base(node: ManagedNode) -> str:
    """Tell the folder of the configuration, the system's or the user's."""
    return "/etc/containers" if node.is_root else f"{node.me.home}/.config/containers"


def registries(node: ManagedNode) -> list[dict[str, Any]]:
    """Return what the node has set for registries, less what is ours; the last wins."""
    return [one for path, one in entries(node) if path.name != NAME]


def entries(node: ManagedNode) -> list[tuple[Path, dict[str, Any]]]:
    """Return what is set for registries, and the file that says it, in the order of reading."""
    paths = [node.real("/etc/containers/registries.conf")]
    homes = [f"{node.me.home}/.config/containers"]
    if not node.is_root and node.exists(f"{homes[0]}/registries.conf"):
        paths = [node.real(f"{homes[0]}/registries.conf")]
    for folder in ["/etc/containers", *([] if node.is_root else homes)]:
        paths += sorted(node.real(f"{folder}/registries.conf.d").glob("*.conf"))
    return [(path, one) for path in paths for one in _registries(path)]


def _registries(path: Path) -> list[dict[str, Any]]:
    content = files.read(path) or b""
    # Most nodes need no reader of TOML for this: what they have are comments and short names.
    first = re.search(rb"^\s*(\[\[?\s*registry\b|registry\b)", content, re.MULTILINE)
    if first is None:
        return []
    found = toml.load(content, str(path)).get("registry", [])
    if not isinstance(found, list):
        line = content[: first.start(1)].count(b"\n") + 1
        hint = "write [[registry]] there; nothing was changed"
        raise ClientError(f"{path}, line {line}: registry is no list of tables; {hint}")
    for one in found:
        mirrors = one.get("mirror", [])
        if not isinstance(mirrors, list) or not all(isinstance(each, dict) for each in mirrors):
            hint = "write [[registry.mirror]] there; nothing was changed"
            raise ClientError(f"{path}: registry.mirror is no list of tables; {hint}")
    return [dict(one) for one in found]


def drop_in(setup: Setup, known: list[dict[str, Any]], unqualified: tuple[str, ...] = ()) -> str:
    """Write the drop-in."""
    lines = ["# What stands in for these registries in this buildset."]
    if unqualified:
        lines.append(f"unqualified-search-registries = {toml.dump(unqualified)}")
    for namespace in setup.namespaces:
        # A longer prefix that the node has set would pass by the shorter one's mirrors.
        prefixes = {_prefix(one): one for one in known if _is_below(_prefix(one), namespace.name)}
        whole = {"prefix": namespace.name, "location": namespace.name}
        for prefix, settings in {namespace.name: whole, **prefixes}.items():
            mirror = _mirror(setup.registry, namespace, prefix)
            mirrors = [mirror, *_others(settings, setup.registry)]
            lines += ["", *_table({"prefix": prefix, **settings, "mirror": mirrors})]
    return "\n".join(lines) + "\n"


def _prefix(settings: dict[str, Any]) -> str:
    return str(settings.get("prefix") or settings.get("location") or "")


def _is_below(prefix: str, name: str) -> bool:
    return prefix == name or prefix.startswith(f"{name}/")


def _mirror(registry: RegistryFacts, namespace: Namespace, prefix: str) -> dict[str, Any]:
    rest = prefix[len(namespace.name) :]
    return {"location": f"{registry.pull}/{namespace.path}{rest}"}


def _others(settings: dict[str, Any], registry: RegistryFacts) -> list[dict[str, Any]]:
    """Tell the other mirrors, less those that zuul-jobs' role adds: the registry by the alias, and
    the location itself at the end, which comes after all mirrors in any case."""
    found = list(settings.get("mirror", []))
    if found and found[-1] == {"location": settings.get("location")}:
        found.pop()
    return [one for one in found if _host(one) not in registry.pulls]


def _host(mirror: dict[str, Any]) -> str:
    return str(mirror.get("location", "")).partition("/")[0]


def _table(settings: dict[str, Any]) -> list[str]:
    plain = {name: value for name, value in settings.items() if name != "mirror"}
    lines = ["[[registry]]", *_entries(plain)]
    for one in settings["mirror"]:
        lines += ["[[registry.mirror]]", *_entries(one)]
    return lines


def _entries(values: dict[str, Any]) -> list[str]:
    return [f"{toml.key(name)} = {toml.dump(value)}" for name, value in values.items()]


class _ContainersTool(Tool, ABC):
    """A tool that goes by registries.conf and certs.d of containers."""

    def in_effect(self, namespace: Namespace) -> tuple[str, list[str]]:
        """Tell the mirrors of the last entry, after the file that has it."""
        found: tuple[str, dict[str, Any]] = ("registries.conf", {})
        for path, one in entries(self.node):
            # The image is below the registry's name: no longer prefix is in the way.
            if (one.get("prefix") or one.get("location")) == namespace.name:
                found = (str(path), one)
        return found[0], [str(one["location"]) for one in found[1].get("mirror", [])]

    def authorities(self, namespace: Namespace, address: str) -> tuple[str, list[Path]]:
        """Tell those of the first folder that there is: the user's, the system's, or docker's."""
        configured = [f"{self.node.me.home}/.config/containers", "/etc/containers", "/etc/docker"]
        folders = [f"{folder}/certs.d" for folder in configured]
        return certs_d.authorities(self.node, folders, address)


class _StorageTool(_ContainersTool, ABC):
    """A tool that keeps images in containers' storage, and tells each by its ID."""

    storage = "containers"

    def expected(self, image: Image) -> str:
        """Return the image's ID."""
        return image.identity


class Podman(_StorageTool):
    """podman, which pulls several images at once."""

    program = "podman"

    def environment(self) -> proxies.Environment:
        """Tell the task's, and what containers.conf(5) has for podman's engine besides."""
        return proxies.of_podman(self.node)

    def pull(self, image: Image, names: Sequence[str]) -> list[str]:
        """Pull all of them by one command."""
        told = self.run("pull", "--quiet", *names).decode().split()
        self.run("rmi", *names)
        return [f"sha256:{identity}" for identity in told]


class Buildah(_StorageTool):
    """buildah, which pulls one image at a time."""

    program = "buildah"

    def pull(self, image: Image, names: Sequence[str]) -> list[str]:
        """Pull each of them, even where an image of this ID is in the storage."""
        always = ["pull", "--policy", "always", "--quiet"]
        told = [self.run(*always, name).decode().strip() for name in names]
        self.run("rmi", *names)
        return [f"sha256:{identity}" for identity in told]


class Skopeo(_ContainersTool):
    """skopeo, which keeps no images."""

    program = "skopeo"

    def pull(self, image: Image, names: Sequence[str]) -> list[str]:
        """Get the manifest of each."""
        return [digest_of(self.run("inspect", "--raw", f"docker://{name}")) for name in names]
