# SPDX-License-Identifier: Apache-2.0
"""Nodes as people have them, beside the clean one: what their clients get by public names.

This host is made such a node, uses the registry, and is made what it was, one node after the
other. What they are to get comes by standard input; a line for each goes to standard output: the
images by name, where each is the buildset's (``right``), the public one without a word (``SILENT``)
or another one or none (``WRONG``); or the one line by which the role has refused (``refused``).
"""

from __future__ import annotations

import json
import os
import pwd
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildset_clients import main as work
from buildset_clients.errors import ClientError
from buildset_clients.registry import Setup

from tests.use.clients import BUILDKIT, CRI, DOCKER, PODMAN, SDK, SKOPEO

USER = "labuser"
#: A port at which nothing listens stands for a proxy that knows no registry of the buildset; the
#: public registries are asked without it.
PROXY = "http://198.51.100.13:9"
DIRECT = "quay.io,registry-1.docker.io,registry.example.com,auth.example.com"
PROXIES = {"HTTPS_PROXY": PROXY, "NO_PROXY": DIRECT}
EXPORT = "".join(f"export {name}={value}; " for name, value in PROXIES.items())
#: Another mirror of the public registry, as a site has one.
MIRRORS = "".join(
    f'[[registry]]\nlocation = "{name}"\n[[registry.mirror]]\nlocation = "{mirror}"\n'
    for name, mirror in (("quay.io", "registry.example.com"), ("docker.io", "quay.io"))
)
KEY = "/usr/share/keyrings/debian-archive-bookworm-automatic.gpg"
SIGNED = [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": KEY}]
POLICY = {
    "default": [{"type": "insecureAcceptAnything"}],
    "transports": {"docker": {"quay.io": SIGNED, "docker.io": SIGNED}},
}
#: An overlay on an overlay does not work.
SNAPSHOTS = """
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'native'
[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
  platform = 'linux/amd64'
  snapshotter = 'native'
"""
IMPORTED = "[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = '/etc/other.d'\n"
CONTAINERD = "/etc/containerd/config.toml"
RESTART = {"containerd": "/usr/local/bin/restart-daemon containerd"}


def by_proxy(daemon: str, client: str) -> dict[str, str]:
    """Return the command that restarts a daemon with the proxy, and with the role's variables."""
    variables = f"/etc/{client}/buildset-registry.env"
    given = f"set -a; {EXPORT}[ ! -e {variables} ] || . {variables}; restart-daemon {daemon}"
    return {client: f"sh -c {shlex.quote(given)}"}


@dataclass(frozen=True)
class Node:
    """A node that somebody has, and the commands of its clients."""

    host: str
    what: str
    clients: Sequence[str]
    """The clients that are configured."""

    pulls: Mapping[str, str]
    """The commands that print the digest, by what they are called in the table."""

    files: Mapping[str, str] = field(default_factory=dict)
    before: str = ""
    """The commands that have daemons read them; and of the whole node again afterwards."""

    restart: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    users: Sequence[str] = ()
    umask: int = 0o022
    only: str = ""
    """The registry whose names alone the client has a mirror for."""

    user: str = ""
    """Who runs the role, if not root."""


def user_s(command: str) -> str:
    """Have the ordinary user run a command."""
    # A session has a folder of its own for what lasts as long as it does.
    session = f"export XDG_RUNTIME_DIR=/run/user/$(id -u); {command}"
    return f"runuser -l {USER} -c {shlex.quote(session)}"


TOOLS = {"podman": PODMAN, "skopeo": SKOPEO}
DOCKERS = {"docker": DOCKER, "docker SDK": SDK}
SKOPEO_S = {"skopeo, user": user_s(SKOPEO)}
OWN = 'unqualified-search-registries = ["docker.io"]\n' + MIRRORS
NODES = [
    Node("node", "as it is", ["containers"], {**TOOLS, **SKOPEO_S}),
    Node("node", "as it is", ["docker"], DOCKERS, only="docker.io/"),
    Node(
        "node",
        "a mirror.conf of the site's",
        ["containers"],
        TOOLS,
        files={"/etc/containers/registries.conf.d/mirror.conf": MIRRORS},
    ),
    Node(
        "node",
        "root's own registries.conf",
        ["containers"],
        TOOLS,
        files={"/root/.config/containers/registries.conf": OWN},
    ),
    Node(
        "node",
        "a user's own registries.conf",
        ["containers"],
        SKOPEO_S,
        files={f"/home/{USER}/.config/containers/registries.conf": OWN},
        users=[USER],
    ),
    Node(
        "node",
        "a signature policy",
        ["containers"],
        TOOLS,
        files={"/etc/containers/policy.json": json.dumps(POLICY)},
    ),
    Node("node", "umask 077", ["containers"], SKOPEO_S, umask=0o077, users=[USER]),
    Node(
        "node",
        "a proxy of the shell",
        ["containers"],
        {name: f"{EXPORT}{command}" for name, command in TOOLS.items()},
        environment=PROXIES,
    ),
    Node("node", "a job user without root", [], {**SKOPEO_S}, user=USER),
    Node(
        "current",
        "a proxy of dockerd",
        ["docker"],
        DOCKERS,
        before=f"{EXPORT}restart-daemon dockerd",
        restart=by_proxy("dockerd", "docker"),
    ),
    Node(
        "current",
        "a proxy of dockerd, no service",
        ["docker"],
        DOCKERS,
        before=f"{EXPORT}restart-daemon dockerd",
    ),
    Node(
        "current",
        "a proxy of buildkitd",
        ["buildkit"],
        {"buildkit": BUILDKIT},
        before=f"{EXPORT}restart-daemon buildkitd",
        restart=by_proxy("buildkitd", "buildkit"),
    ),
    Node(
        "current",
        "containerd's version = 4",
        ["containerd"],
        {"containerd 2 by CRI": CRI},
        files={CONTAINERD: f"version = 4\n{SNAPSHOTS}"},
        before="restart-daemon containerd",
        restart=RESTART,
    ),
    Node(
        "current",
        "containerd's imports",
        ["containerd"],
        {"containerd 2 by CRI": CRI},
        files={
            CONTAINERD: f'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n{SNAPSHOTS}',
            "/etc/containerd/conf.d/10-site.toml": f"version = 3\n{IMPORTED}",
        },
        before="restart-daemon containerd",
        restart=RESTART,
    ),
]


class Files:
    """The files of a node, and what they were before."""

    def __init__(self, node: Node) -> None:
        self._before = {Path(path): _read(Path(path)) for path in node.files}
        self._made: list[Path] = []
        for path, text in node.files.items():
            self._write(Path(path), text)

    def _write(self, path: Path, text: str) -> None:
        missing = [one for one in path.parents if not one.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.is_relative_to(f"/home/{USER}"):
            entry = pwd.getpwnam(USER)
            for one in (path, *missing):
                os.chown(one, entry.pw_uid, entry.pw_gid)
        self._made += missing

    def restore(self) -> None:
        """Make them what they were."""
        for path, content in self._before.items():
            path.unlink() if content is None else path.write_bytes(content)
        for folder in sorted(self._made, key=lambda path: len(path.parts), reverse=True):
            folder.rmdir()


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def role(node: Node, order: Mapping[str, Any]) -> str:
    """Do the role's work as it is done on this node; return the line by which it refuses."""
    words = [sys.executable, "-B", "-m", "tests.use.nodes", "role"]
    if node.user:
        runtime = f"XDG_RUNTIME_DIR=/run/user/{pwd.getpwnam(node.user).pw_uid}"
        names = [f"HOME=/home/{node.user}", runtime, f"PYTHONPATH={os.environ['PYTHONPATH']}"]
        words = ["runuser", "-u", node.user, "--", "env", *names, *words]
    done = subprocess.run(
        words,
        input=json.dumps(order),
        env={**os.environ, **node.environment},
        umask=node.umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{node.what}: {done.stderr}"
    return done.stdout.strip()


def do_role(order: dict[str, Any]) -> None:
    """Use the registry or undo it, in this process."""
    setup = Setup.read(order.pop("facts"), "zuul-jobs.buildset-registry", order.pop("names"), [])
    absent = order.pop("absent", False)
    try:
        work.restore(work.Order(**order)) if absent else work.use(work.Order(**order), setup)
    except ClientError as error:
        sys.stdout.write(f"{error}\n")


def attempt(node: Node, given: Mapping[str, Any]) -> list[dict[str, str]]:
    """Make this host the node, use the registry and pull; a row for each of its commands."""
    order = {"facts": given["facts"], "names": given["names"], "commands": dict(node.restart)}
    order |= {"clients": list(node.clients), "users": list(node.users), "store": False}
    images = {name: two for name, two in given["images"].items() if name.startswith(node.only)}
    files = Files(node)
    try:
        _shell(node.before)
        said = role(node, {**order, "canary": True})
        rows = [
            {"client": client, **({"refused": said} if said else _cells(command, images))}
            for client, command in node.pulls.items()
        ]
        role(node, {**order, "absent": True})
    finally:
        files.restore()
        _shell(node.before.rpartition("; ")[2])
    return [{"node": node.what, **row} for row in rows]


def _cells(command: str, images: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Pull by every name; tell of each what it was."""
    cells = {}
    for name, (ours, public) in images.items():
        lines = _shell(command.format(name)).split()
        got = lines[-1] if lines else ""
        cells[name] = "right" if got == ours else "SILENT" if got == public else "WRONG"
    return cells


def _shell(command: str) -> str:
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    sys.stderr.write(done.stderr)
    return done.stdout


def main() -> None:
    """Try all nodes of this host, which does not use the registry yet."""
    given = json.load(sys.stdin)
    if sys.argv[1:] == ["role"]:
        do_role(given)
        return
    for node in (one for one in NODES if one.host == given["host"]):
        for row in attempt(node, given):
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
