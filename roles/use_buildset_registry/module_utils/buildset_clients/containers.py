# SPDX-License-Identifier: Apache-2.0
"""podman, buildah, skopeo and cri-o: a drop-in of registries.conf, and trust in certs.d.

containers-registries.conf.d(5): drop-ins are read by name, and the last one that has a registry
has it as a whole. What the node has set for a registry is therefore repeated in ours, with the
buildset registry as its first mirror. A user's drop-ins come after the system's.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from . import files, tomltext
from .edits import Edit, own
from .errors import ClientError
from .node import Node
from .registry import Namespace, Registry, Wanted

#: Sorts after what distributions and people are likely to have there.
NAME = "999-buildset-registry.conf"
CERTIFICATE = "buildset-registry.crt"


def edits(node: Node, wanted: Wanted) -> list[Edit]:
    """Configure everything that reads containers' files."""
    folder = base(node)
    text = drop_in(wanted, registries(node), unqualified=wanted.unqualified)
    path = f"{folder}/registries.conf.d/{NAME}"
    made = [own("containers", path, text.encode(), action="reload")]
    return made + trust("containers", f"{folder}/certs.d", wanted.registry)


def base(node: Node) -> str:
    """Tell the folder of the configuration, the system's or the user's."""
    return "/etc/containers" if node.is_root else f"{node.me.home}/.config/containers"


def trust(client: str, folder: str, registry: Registry) -> list[Edit]:
    """Trust the certificate at both endpoints."""
    names = [f"{folder}/{address}/{CERTIFICATE}" for address in registry.addresses]
    return [own(client, name, registry.certificate) for name in names]


def registries(node: Node) -> list[dict[str, Any]]:
    """Return what the node has set for registries, less what is ours; the last wins."""
    return [one for path, one in entries(node) if path.name != NAME]


def entries(node: Node) -> list[tuple[Path, dict[str, Any]]]:
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
    found = tomltext.load(content, str(path)).get("registry", [])
    if not isinstance(found, list):
        line = content[: first.start(1)].count(b"\n") + 1
        hint = "write [[registry]] there; nothing was changed"
        raise ClientError(f"{path}, line {line}: registry is no list of tables; {hint}")
    return [dict(one) for one in found]


def drop_in(wanted: Wanted, known: list[dict[str, Any]], unqualified: tuple[str, ...] = ()) -> str:
    """Write the drop-in."""
    lines = ["# What stands in for these registries in this buildset."]
    if unqualified:
        lines.append(f"unqualified-search-registries = {tomltext.dump(unqualified)}")
    for namespace in wanted.namespaces:
        # A longer prefix that the node has set would pass by the shorter one's mirrors.
        prefixes = {_prefix(one): one for one in known if _is_below(_prefix(one), namespace.name)}
        whole = {"prefix": namespace.name, "location": namespace.name}
        for prefix, settings in {namespace.name: whole, **prefixes}.items():
            lines += [
                "",
                *_table(
                    {"prefix": prefix, **settings}, _mirror(wanted.registry, namespace, prefix)
                ),
            ]
    return "\n".join(lines) + "\n"


def _prefix(settings: dict[str, Any]) -> str:
    return str(settings.get("prefix") or settings.get("location") or "")


def _is_below(prefix: str, name: str) -> bool:
    return prefix == name or prefix.startswith(f"{name}/")


def _mirror(registry: Registry, namespace: Namespace, prefix: str) -> dict[str, Any]:
    rest = prefix[len(namespace.name) :]
    return {"location": f"{registry.pull}/{namespace.path}{rest}"}


def _table(settings: dict[str, Any], mirror: dict[str, Any]) -> list[str]:
    plain = {name: value for name, value in settings.items() if name != "mirror"}
    lines = ["[[registry]]", *_entries(plain)]
    for one in [mirror, *settings.get("mirror", [])]:
        lines += ["[[registry.mirror]]", *_entries(one)]
    return lines


def _entries(values: dict[str, Any]) -> list[str]:
    return [f"{tomltext.key(name)} = {tomltext.dump(value)}" for name, value in values.items()]
