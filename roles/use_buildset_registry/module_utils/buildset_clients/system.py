# SPDX-License-Identifier: Apache-2.0
"""The system itself: its store of certificates, and its table of hosts."""

from __future__ import annotations

from .edits import TEXT, Change, Edit, own
from .errors import ClientError
from .node import Node
from .registry import Registry

_FILE = "buildset-registry.crt"
_HOSTS = "/etc/hosts"
#: Folders for further authorities, and what makes the store of them anew, by distribution:
#: Red Hat; SUSE; Arch; Debian, Ubuntu and Alpine.
STORES = {
    "/etc/pki/ca-trust/source/anchors": ["update-ca-trust", "extract"],
    "/etc/pki/trust/anchors": ["update-ca-certificates"],
    "/etc/ca-certificates/trust-source/anchors": ["trust", "extract-compat"],
    "/usr/local/share/ca-certificates": ["update-ca-certificates"],
}


def store(node: Node) -> tuple[str, list[str]] | None:
    """Find the folder and the command; nothing on a system without one."""
    for folder, command in STORES.items():
        if node.exists(folder) and node.program(command[0]):
            return folder, command
    return None


def trust(node: Node, registry: Registry) -> list[Edit]:
    """Let every program of the node trust the registry."""
    found = store(node)
    if not node.is_root or found is None:
        return []
    return [own("system", f"{found[0]}/{_FILE}", registry.certificate, action="reload")]


def names(node: Node, registry: Registry) -> list[Edit]:
    """Let the alias stand for an IPv6 literal."""
    if not registry.literals:
        return []
    if not node.is_root:
        line = f"'{registry.literals[0]} {registry.alias}'"
        if registry.alias not in node.real(_HOSTS).read_text().split():
            hint = f"become root, or have {line} put into {_HOSTS}"
            raise ClientError(f"{registry.literals[0]} needs a name that clients take; {hint}")
        return []
    return [Edit("system", _HOSTS, TEXT, _naming(registry))]


def _naming(registry: Registry) -> Change:
    def change(before: bytes | None) -> bytes:
        lines = (before or b"").decode().splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        kept = [line for line in lines if registry.alias not in line.partition("#")[0].split()]
        ours = [f"{address} {registry.alias}\n" for address in registry.literals]
        return "".join([*kept, *ours]).encode()

    return change
