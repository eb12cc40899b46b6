# SPDX-License-Identifier: Apache-2.0
"""A node that is a folder, and a registry to tell it of."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildset_clients import main
from buildset_clients.clients.table import CLIENTS
from buildset_clients.formats.toml import load
from buildset_clients.node import Account, ManagedNode
from buildset_clients.registry import Setup

#: Of nobody, and of a key that is nowhere.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBfTCCASOgAwIBAgIUVL4KzfMRZvjXpgMX5uRw55wYK5gwCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIcmVnaXN0cnkwIBcNMjYxMTI5MDcwNzEzWhgPMjEyNjExMDUw
NzA3MTNaMBMxETAPBgNVBAMMCHJlZ2lzdHJ5MFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEuUrTjVoRSUp6PY0XHljg7MUGfgLBIVFAIF0KMAJMtZXZttAgcXfjyGyF
LI648Bmh7NWNkNQ+gLi59Dt07Mv85KNTMFEwHQYDVR0OBBYEFLDTbOvVfKnn/N7e
cCyKCgFyCWwcMB8GA1UdIwQYMBaAFLDTbOvVfKnn/N7ecCyKCgFyCWwcMA8GA1Ud
EwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAIBCMbVlEMgXCpbogiiTOHQ/
5ihbJsHC9EH9ZzA2R+JlAiAdJM8r72J5dBCpRmflhqDHVtZKJAeaYodmStz/n5+M
KQ==
-----END CERTIFICATE-----
"""
FACTS: dict[str, Any] = {
    "host": "198.51.100.11",
    "port": 5000,
    "push_host": "198.51.100.11",
    "push_port": 5001,
    "username": "zuul",
    "password": "not-to-be-seen",
    "cert": CERTIFICATE,
}
LOGIN = "enV1bDpub3QtdG8tYmUtc2Vlbg=="
PULL, PUSH = "198.51.100.11:5000", "198.51.100.11:5001"
ALIAS = "zuul-jobs.buildset-registry"
#: All names by which the registry is pushed to and pulled from, where it has an address.
ADDRESSES = [PULL, PUSH, f"{ALIAS}:5000", f"{ALIAS}:5001"]
NAMESPACES = [
    ["docker.io", "https://registry-1.docker.io"],
    ["quay.io", "https://quay.io"],
    ["registry.example.com:5000", "https://registry.example.com:5000"],
]


def make_setup(**facts: Any) -> Setup:
    """Return the setup that a node is to be given."""
    return Setup.read({**FACTS, **facts}, ALIAS, NAMESPACES, ["docker.io"])


def toml(text: str) -> dict[str, Any]:
    """Read TOML."""
    return load(text.encode(), "text")


@dataclass
class Place:
    """A folder that stands for the root of a node."""

    root: Path
    node: ManagedNode

    @classmethod
    def make(cls, root: Path, is_root: bool = True) -> Place:
        """Make one that has the folders of every system and no client."""
        home = "/root" if is_root else "/home/someone"
        for folder in ("etc", "var/lib", home[1:], "usr/local/share/ca-certificates"):
            (root / folder).mkdir(parents=True)
        me = Account("someone", os.geteuid(), os.getegid(), home)
        return cls(root, ManagedNode(root, (me,), is_root, path=str(root / "bin")))

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """Write a file."""
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def read(self, name: str) -> str:
        """Read a file."""
        return (self.root / name.lstrip("/")).read_text()

    def tree(self) -> dict[str, tuple[bytes, int]]:
        """Return all that there is, files with their modes and folders."""
        return {
            str(path.relative_to(self.root)): (
                path.read_bytes() if path.is_file() else b"",
                path.lstat().st_mode,
            )
            for path in sorted(self.root.rglob("*"))
        }

    def use(self, *clients: str, dry: bool = False, **facts: Any) -> dict[str, Any]:
        """Configure clients; all that this user may, if none is named."""
        every = [one.name for one in CLIENTS if self.node.is_root or not one.of_root]
        order = main.Order(clients=list(clients or every), dry=dry)
        return main.use(order, make_setup(**facts), self.node)

    def restore(self) -> dict[str, Any]:
        """Undo it."""
        return main.restore(main.Order(), self.node)
