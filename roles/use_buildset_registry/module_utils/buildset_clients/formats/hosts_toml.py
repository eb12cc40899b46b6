# SPDX-License-Identifier: Apache-2.0
"""containerd's hosts.toml: the hosts to ask for a registry, in their order in the file.

containerd tells a mirror by ``?ns=`` which registry it stands for, so one address serves all.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ..edits import TEXT, Edit, Rewrite, own
from ..errors import ClientError
from ..node import ManagedNode
from ..registry import CERTIFICATE_FILE, Namespace, RegistryFacts, Setup
from . import toml

#: The folder of these files where nothing says another one.
CERTS_D = "/etc/containerd/certs.d"


def edits(client: str, folder: str, setup: Setup, seen: str = "") -> list[Edit]:
    """Write the files of a certs.d; ``seen`` is where containerd sees the folder, if elsewhere."""
    registry = setup.registry
    certificate = f"{seen or folder}/{CERTIFICATE_FILE}"
    made = [own(client, f"{folder}/{CERTIFICATE_FILE}", registry.certificate)]
    made += mirrors(client, folder, setup, certificate)
    for address in registry.addresses:
        rights = ["pull", "resolve", *(["push"] if address in registry.pushes else [])]
        table = _host(registry, address, rights, certificate)
        path = f"{folder}/{address}/hosts.toml"
        made.append(_edit(client, path, f'server = "https://{address}"\n', table))
    return made


def mirrors(client: str, folder: str, setup: Setup, certificate: str) -> list[Edit]:
    """Write the file of each registry that has the mirror, which is trusted by a certificate."""
    registry, made = setup.registry, []
    for namespace in setup.namespaces:
        server = f'server = "{_server(namespace)}"\n'
        table = _host(registry, registry.pull, ["pull", "resolve"], certificate)
        made.append(_edit(client, _path(folder, namespace), server, table))
    return made


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


def _edit(client: str, path: str, server: str, table: str) -> Edit:
    rewrite = _first(path, server, table)
    return Edit(client, path, TEXT, rewrite, mode=0o600, secret=True)


def _first(path: str, server: str, table: str) -> Rewrite:
    """Put our host before those that there are."""

    def rewrite(before: bytes | None) -> bytes:
        if before is None or not before.strip():
            return f"{server}\n{table}".encode()
        known = toml.load(before, path)
        lines = before.decode().splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        place = toml.first_table(lines, "host")
        text = "".join([*lines[:place], table, "\n", *lines[place:]]).encode()
        _compare(path, known, table, text)
        return text

    return rewrite


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


def in_effect(node: ManagedNode, folder: str, namespace: Namespace) -> tuple[str, list[str]]:
    """Tell the file of a registry, and the mirrors that it has."""
    path = _path(folder, namespace)
    return path, list(toml.read(node, path).get("host", {}))


def authorities(
    node: ManagedNode, folder: str, namespace: Namespace, address: str
) -> tuple[str, list[Path]]:
    """Tell the file of a registry, and the certificates that it names for an address."""
    path = _path(folder, namespace)
    return path, toml.certificates(node, path, ["host", f"https://{address}"])


def _path(folder: str, namespace: Namespace) -> str:
    return f"{folder}/{namespace.name}/hosts.toml"
