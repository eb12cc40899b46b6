# SPDX-License-Identifier: Apache-2.0
"""containerd's hosts.toml: the hosts to ask for a registry, in their order in the file.

containerd tells a mirror by ``?ns=`` which registry it stands for, so one address serves all.

Of a registry it looks at the first folder that there is of ``NAME_PORT_``, ``NAME:PORT`` and
``_default``. Certificates there count only where it has no hosts.toml. So a new file of ours would
hide what has worked till then: what was in effect is taken over into it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable
from urllib.parse import urlsplit, urlunsplit

from ..edits import TEXT, Edit, Rewrite, own
from ..errors import ClientError
from ..node import ManagedNode
from ..registry import CERTIFICATE_FILE, Namespace, RegistryFacts, Setup
from . import toml

#: The folder of these files where nothing says another one.
CERTS_D = "/etc/containerd/certs.d"


_FILE = "hosts.toml"
#: The names of files that mark a folder as ours alone.
_OURS = (CERTIFICATE_FILE, _FILE)


@dataclass(frozen=True)
class HostFolders:
    """The folders that containerd looks into, one after the other."""

    node: ManagedNode
    names: str
    """Joined by colons, as containerd has them in config_path."""

    elsewhere: str = ""
    """The place where containerd sees the one that there is, if it is not the same."""

    @property
    def first(self) -> str:
        """The folder that is written."""
        return self.names.partition(":")[0]

    @property
    def seen(self) -> str:
        """The same as containerd sees it."""
        return self.elsewhere or self.first

    def place(self, name: str) -> str:
        """Tell a registry's own folder: the other spelling of a port wins where it is there."""
        *own_ones, _default = _directories(self.first, name)
        return next((one for one in own_ones if self.node.exists(one)), own_ones[-1])


def edits(client: str, folders: HostFolders, setup: Setup) -> list[Edit]:
    """Write the files, and the certificate beside them."""
    registry, certificate = setup.registry, f"{folders.seen}/{CERTIFICATE_FILE}"
    made = [own(client, f"{folders.first}/{CERTIFICATE_FILE}", registry.certificate)]
    made += mirrors(client, folders, setup, certificate)
    for address in registry.addresses:
        rights = ["pull", "resolve", *(["push"] if address in registry.pushes else [])]
        table = _host(registry, address, rights, certificate)
        path = f"{folders.place(address)}/{_FILE}"
        made.append(_edit(client, path, partial(_server_alone, address), table))
    return made


def mirrors(client: str, folders: HostFolders, setup: Setup, certificate: str) -> list[Edit]:
    """Write the file of each registry that has the mirror, which is trusted by a certificate."""
    registry, made = setup.registry, []
    for namespace in setup.namespaces:
        table = _host(registry, registry.pull, ["pull", "resolve"], certificate)
        path = f"{folders.place(namespace.name)}/{_FILE}"
        made.append(_edit(client, path, partial(_without_us, folders, namespace), table))
    return made


def _directories(folder: str, name: str) -> Iterator[str]:
    """Yield the folders of a registry, in the order in which they are looked for."""
    host, separator, port = name.rpartition(":")
    if separator:
        yield f"{folder}/{host}_{port}_"
    yield f"{folder}/{name}"
    yield f"{folder}/_default"


def root(node: ManagedNode, folders: str, name: str) -> str:
    """Tell in which of the folders a registry is found; the first one where it is in none."""
    roots = folders.split(":")
    found = [one for one in roots if any(map(node.exists, _directories(one, name)))]
    return (found or roots)[0]


def _server_alone(address: str) -> str:
    return f"server = {toml.dump('https://' + address)}\n"


def _without_us(folders: HostFolders, namespace: Namespace) -> str:
    """Write what is in effect for a registry that has no file of its own."""
    tree = {"server": _server(namespace), **_in_effect_without_us(folders, namespace.name)}
    tree = _moved(tree, folders.first, folders.seen)
    hosts = tree.pop("host", {})
    lines = toml.entries(tree)
    for name, value in tree.items():
        lines += toml.table([name], value) if isinstance(value, dict) else []
    for name, host in hosts.items():
        lines += ["", *toml.table(["host", name], host)]
    return "\n".join(lines) + "\n"


def _moved(value: Any, folder: str, seen: str) -> Any:
    """Name files of a folder by the place where containerd sees it."""
    if isinstance(value, dict):
        return {name: _moved(one, folder, seen) for name, one in value.items()}
    if isinstance(value, list):
        return [_moved(one, folder, seen) for one in value]
    is_there = isinstance(value, str) and value.startswith(f"{folder}/")
    return seen + value[len(folder) :] if is_there else value


def _in_effect_without_us(folders: HostFolders, name: str) -> dict[str, Any]:
    """Find it in the first folder that there is."""
    node, own_place = folders.node, folders.place(name)
    for one in [one for root in folders.names.split(":") for one in _directories(root, name)]:
        if not node.exists(one):
            continue
        tree = {} if one == own_place else _others(toml.read(node, f"{one}/{_FILE}"))
        tree = tree or _certificates(node, one)
        if tree or _has_others(node, one):
            return _absolute(tree, one)
    return {}


def _has_others(node: ManagedNode, folder: str) -> bool:
    """Tell whether a folder is not of our making."""
    return any(path.name not in _OURS for path in node.real(folder).iterdir())


def _others(tree: dict[str, Any]) -> dict[str, Any]:
    """Return what a file has without us, which may be the file that another client has of us."""
    hosts = tree.get("host", {})
    if not isinstance(hosts, dict):
        return tree
    left = {name: one for name, one in hosts.items() if not _is_ours(one)}
    if len(left) == len(hosts):
        return tree
    rest = {name: value for name, value in tree.items() if name != "host"}
    if left:
        return {**rest, "host": left}
    return rest if set(rest) - {"server"} else {}


def _is_ours(host: Any) -> bool:
    named = host.get("ca") if isinstance(host, dict) else None
    return isinstance(named, str) and Path(named).name == CERTIFICATE_FILE


def _certificates(node: ManagedNode, folder: str) -> dict[str, Any]:
    """Return what containerd makes of the certificates in a folder without hosts.toml."""
    names = sorted(path.name for path in node.real(folder).iterdir() if not path.is_dir())
    found: dict[str, Any] = {}
    for name in names:
        base, extension = Path(name).stem, Path(name).suffix
        if extension == ".crt" and name != CERTIFICATE_FILE:
            found.setdefault("ca", []).append(name)
        if extension == ".cert":
            key = f"{base}.key"
            found.setdefault("client", []).append([name, key] if key in names else name)
    return found


def _absolute(tree: dict[str, Any], folder: str) -> dict[str, Any]:
    """Name the certificates as they are named from another folder."""
    result = {**tree}
    for name in ("ca", "client"):
        if name in result:
            result[name] = _joined(result[name], folder)
    if isinstance(result.get("host"), dict):
        hosts = result["host"].items()
        result["host"] = {
            name: _absolute(one, folder) if isinstance(one, dict) else one for name, one in hosts
        }
    return result


def _joined(value: Any, folder: str) -> Any:
    if isinstance(value, list):
        return [_joined(one, folder) for one in value]
    return str(Path(folder, value)) if isinstance(value, str) else value


def _server(namespace: Namespace) -> str:
    """Tell the upstream's own address; credentials that an URL may hold are left out."""
    parts = urlsplit(namespace.url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")


def _host(registry: RegistryFacts, address: str, rights: list[str], certificate: str) -> str:
    table = ["host", f"https://{address}"]
    return "".join(
        [
            f"{toml.header(table)}\n",
            f"  capabilities = {toml.dump(rights)}\n",
            f"  ca = {toml.dump(certificate)}\n",
            f"{toml.header([*table, 'header'])}\n",
            f"  authorization = {toml.dump('Basic ' + registry.login)}\n",
        ]
    )


def _edit(client: str, path: str, otherwise: Callable[[], str], table: str) -> Edit:
    rewrite = _first(path, otherwise, table)
    return Edit(client, path, TEXT, rewrite, mode=0o600, secret=True)


def _first(path: str, otherwise: Callable[[], str], table: str) -> Rewrite:
    """Put our host before those that there are; ``otherwise`` writes a file that there is not."""

    def rewrite(before: bytes | None) -> bytes:
        before = before if before and before.strip() else otherwise().encode()
        known = toml.load(before, path)
        ours = toml.load(table.encode(), path)["host"]
        if _has(known, ours):
            return before
        mark, before = toml.split_mark(before)
        lines = before.decode().splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        for host in ours:
            lines = toml.outside(lines, ["host", host])
        known = toml.load("".join(lines).encode(), path)
        place = toml.first_table(lines, "host")
        put = ["\n", table] if place == len(lines) else [table, "\n"]
        text = "".join([*lines[:place], *put, *lines[place:]]).encode()
        _compare(path, known, table, text)
        return mark + text

    return rewrite


def _has(known: dict[str, Any], ours: dict[str, Any]) -> bool:
    """Tell whether our host is there as it is to be, before all others."""
    hosts = known.get("host")
    return isinstance(hosts, dict) and list(hosts.items())[:1] == list(ours.items())


def _compare(path: str, known: dict[str, Any], table: str, text: bytes) -> None:
    ours = toml.load(table.encode(), path)["host"]
    expected = copy.deepcopy(known)
    others = expected.get("host", {})
    hint = f"put the host {', '.join(ours)} first there by hand"
    wrong = ClientError(f"{path}: its form cannot be edited; {hint}")
    if not isinstance(others, dict) or set(ours) & set(others):
        raise wrong
    expected["host"] = {**ours, **others}
    found = toml.load(text, path)
    if found != expected or list(found["host"]) != list(expected["host"]):
        raise wrong


def in_effect(node: ManagedNode, folders: str, namespace: Namespace) -> tuple[str, list[str]]:
    """Tell the file of a registry, and the mirrors that it has."""
    path = _path(node, folders, namespace)
    return path, list(toml.read(node, path).get("host", {}))


def authorities(
    node: ManagedNode, folders: str, namespace: Namespace, address: str
) -> tuple[str, list[Path]]:
    """Tell the file of a registry, and the certificates that it names for an address."""
    path = _path(node, folders, namespace)
    return path, toml.certificates(node, path, ["host", f"https://{address}"])


def _path(node: ManagedNode, folders: str, namespace: Namespace) -> str:
    """Tell the file that is looked at: that of the first folder there is."""
    folder = root(node, folders, namespace.name)
    places = list(_directories(folder, namespace.name))
    return f"{next(filter(node.exists, places), places[-2])}/{_FILE}"
