# SPDX-License-Identifier: Apache-2.0
"""containerd's hosts.toml: the hosts to ask for a registry, in their order in the file.

containerd tells a mirror by ``?ns=`` which registry it stands for, so one address serves all.
"""

from __future__ import annotations

import copy
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from . import tomltext
from .edits import TEXT, Change, Edit, own
from .errors import ClientError
from .registry import Namespace, Registry, Wanted

_FILE = "buildset-registry.crt"


def edits(client: str, folder: str, wanted: Wanted, seen: str = "") -> list[Edit]:
    """Write the files of a certs.d; ``seen`` is where containerd sees the folder, if elsewhere."""
    registry = wanted.registry
    certificate = f"{seen or folder}/{_FILE}"
    made = [own(client, f"{folder}/{_FILE}", registry.certificate)]
    made += mirrors(client, folder, wanted, certificate)
    for address in registry.addresses:
        rights = ["pull", "resolve", *(["push"] if address == registry.push else [])]
        table = _host(registry, address, rights, certificate)
        path = f"{folder}/{address}/hosts.toml"
        made.append(_edit(client, path, f'server = "https://{address}"\n', table))
    return made


def mirrors(client: str, folder: str, wanted: Wanted, certificate: str) -> list[Edit]:
    """Write the file of each registry that has the mirror, which is trusted by a certificate."""
    registry, made = wanted.registry, []
    for namespace in wanted.namespaces:
        server = f'server = "{_server(namespace)}"\n'
        table = _host(registry, registry.pull, ["pull", "resolve"], certificate)
        made.append(_edit(client, f"{folder}/{namespace.name}/hosts.toml", server, table))
    return made


def _server(namespace: Namespace) -> str:
    """Tell the upstream's own address; credentials that an URL may hold are left out."""
    parts = urlsplit(namespace.url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")


def _host(registry: Registry, address: str, rights: list[str], certificate: str) -> str:
    table = ["host", f"https://{address}"]
    return "".join(
        [
            f"{tomltext.header(table)}\n",
            f"  capabilities = {tomltext.dump(rights)}\n",
            f"  ca = {tomltext.dump(certificate)}\n",
            f"{tomltext.header([*table, 'header'])}\n",
            f"  authorization = {tomltext.dump('Basic ' + registry.login)}\n",
        ]
    )


def _edit(client: str, path: str, server: str, table: str) -> Edit:
    change = _first(path, server, table)
    return Edit(client, path, TEXT, change, mode=0o600, secret=True)


def _first(path: str, server: str, table: str) -> Change:
    """Put our host before those that there are."""

    def change(before: bytes | None) -> bytes:
        if before is None or not before.strip():
            return f"{server}\n{table}".encode()
        known = tomltext.load(before, path)
        lines = before.decode().splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        place = tomltext.first_table(lines, "host")
        text = "".join([*lines[:place], table, "\n", *lines[place:]]).encode()
        _compare(path, known, table, text)
        return text

    return change


def _compare(path: str, known: dict[str, Any], table: str, text: bytes) -> None:
    ours = tomltext.load(table.encode(), path)["host"]
    expected = copy.deepcopy(known)
    others = expected.get("host", {})
    hint = f"put the host {', '.join(ours)} first there by hand"
    wrong = ClientError(f"{path}: its form cannot be edited; {hint}")
    if not isinstance(others, dict) or set(ours) & set(others):
        raise wrong
    expected["host"] = {**ours, **others}
    found = tomltext.load(text, path)
    if found != expected or list(found["host"]) != list(expected["host"]):
        raise wrong
