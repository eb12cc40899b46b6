# SPDX-License-Identifier: Apache-2.0
"""buildkitd and buildx: mirrors and trust in buildkitd.toml.

BuildKit asks a mirror with ``?ns=`` as containerd does. The file in docker's folder is what buildx
gives the builders that it makes in containers, with the certificates that it names.
"""

from __future__ import annotations

import os

from . import files, tomltext
from .daemons import option
from .edits import TEXT, Change, Edit, own
from .node import Node
from .registry import Wanted

_FILE = "buildset-registry.crt"


def daemon(node: Node, wanted: Wanted, arguments: list[str]) -> list[Edit]:
    """Configure the daemon of the node, or the user's own; the arguments of the one that runs."""
    path, certificate = settings_file(node, arguments), f"{_folder(node)}/{_FILE}"
    change = mirroring(wanted, path, certificate)
    settings = Edit("buildkit", path, TEXT, change, action="restart")
    return [settings, own("buildkit", certificate, wanted.registry.certificate)]


def settings_file(node: Node, arguments: list[str]) -> str:
    """Tell which file the daemon reads."""
    return option(arguments, "config") or f"{_folder(node)}/buildkitd.toml"


def address(node: Node, arguments: list[str]) -> str:
    """Tell where the daemon answers; systemd's socket is at the usual place."""
    path = settings_file(node, arguments)
    content = files.read(node.real(path)) if node.exists(path) else None
    configured = tomltext.get(tomltext.load(content, path), ["grpc", "address"]) or []
    for named in [option(arguments, "addr"), *configured]:
        if named.startswith(("unix://", "tcp://")):
            return str(named)
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{node.me.uid}"
    return f"unix://{'/run' if node.is_root else runtime}/buildkit/buildkitd.sock"


def _folder(node: Node) -> str:
    return "/etc/buildkit" if node.is_root else f"{node.me.home}/.config/buildkit"


def builders(node: Node, wanted: Wanted) -> list[Edit]:
    """Configure the builders that each user will make with buildx."""
    made = []
    for account in node.accounts:
        folder = f"{account.home}/.docker/buildx"
        path, certificate = f"{folder}/buildkitd.default.toml", f"{folder}/{_FILE}"
        change = mirroring(wanted, path, certificate)
        made.append(Edit("buildx", path, TEXT, change, account=account))
        made.append(own("buildx", certificate, wanted.registry.certificate, account=account))
    return made


def mirroring(wanted: Wanted, path: str, certificate: str) -> Change:
    """Return what puts the registry before the mirrors that there are."""

    def change(before: bytes | None) -> bytes:
        content, tree = before or b"", tomltext.load(before, path)
        pull = wanted.registry.pull
        for namespace in wanted.namespaces:
            table = ["registry", namespace.name]
            others = [one for one in tomltext.get(tree, table).get("mirrors", []) if one != pull]
            content = tomltext.put(content, table, "mirrors", [pull, *others], path)
        for address in wanted.registry.addresses:
            table = ["registry", address]
            others = [one for one in tomltext.get(tree, table).get("ca", []) if one != certificate]
            content = tomltext.put(content, table, "ca", [certificate, *others], path)
        return content

    return change
