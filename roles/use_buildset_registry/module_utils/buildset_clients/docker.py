# SPDX-License-Identifier: Apache-2.0
"""docker's daemon: a mirror of Docker Hub in daemon.json, and trust in certs.d.

Mirrors are read again at SIGHUP, so that containers go on; certificates at every connection.
"""

from __future__ import annotations

from . import containers
from .edits import JSON, Change, Edit
from .errors import ClientError
from .jsontext import dump, load, part
from .node import Node
from .registry import Wanted

_MIRRORS = "registry-mirrors"


def edits(node: Node, wanted: Wanted, arguments: list[str]) -> list[Edit]:
    """Configure the daemon; ``arguments`` are those of the one that runs."""
    system = "/etc/docker"
    folder = system if node.is_root else f"{node.me.home}/.config/docker"
    path = settings_file(arguments) or f"{folder}/daemon.json"
    for argument in arguments:
        if argument.split("=")[0] == f"--{_MIRRORS[:-1]}":
            hint = f"move that mirror to {path} and restart docker"
            raise ClientError(f"dockerd has {argument} on its command line; {hint}")
    change = _mirroring(path, f"https://{wanted.registry.pull}")
    made = [Edit("docker", path, JSON, change, action="reload")]
    return made + containers.trust("docker", f"{folder}/certs.d", wanted.registry)


def settings_file(arguments: list[str]) -> str:
    """Tell which file the daemon's command line names."""
    for index, argument in enumerate(arguments):
        name, separator, value = argument.partition("=")
        if name == "--config-file":
            return value if separator else "".join(arguments[index + 1 : index + 2])
    return ""


def _mirroring(path: str, mirror: str) -> Change:
    def change(before: bytes | None) -> bytes:
        found = load(before, path)
        others = [url for url in part(found, _MIRRORS, path, list) if url.rstrip("/") != mirror]
        return dump({**found, _MIRRORS: [mirror, *others]}, before)

    return change
