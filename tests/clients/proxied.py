# SPDX-License-Identifier: Apache-2.0
"""A dockerd whose HTTPS proxy is the registry, beside any other, and its client."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.clients.commands import execute, run, wait_until
from tests.clients.daemon import CURRENT

#: An overlay on the overlay of the enclosed machine does not work: each has another way around it.
_OPTIONS = {
    "docker": ["--storage-driver=vfs"],
    "docker (current)": ["--storage-driver=native", "--ip6tables=false"],
}
_NO_NETWORK = ["--iptables=false", "--bridge=none", "--ip-forward=false"]
NAMES = tuple(_OPTIONS)


@dataclass(frozen=True)
class Docker:
    """A daemon with all that it has in a folder of its own."""

    name: str
    folder: Path

    @property
    def log(self) -> Path:
        """Return the path of its log."""
        return self.folder / "log"

    def command(self, *words: str | Path) -> list[str | Path]:
        """Return a command of its client."""
        return ["docker", "--host", f"unix://{self.folder}/socket", *words]

    def pull(self, reference: str) -> str:
        """Pull an image of which it has nothing, and tell the digest."""
        images = run(*self.command("image", "ls", "--all", "--quiet")).split()
        if images:
            run(*self.command("image", "rm", "--force", *sorted(set(images))))
        run(*self.command("pull", reference))
        image = json.loads(run(*self.command("image", "inspect", reference)))[0]
        return str(image["RepoDigests"][0].partition("@")[2])


@contextmanager
def running(
    docker: Docker, settings: Mapping[str, object], environment: Mapping[str, str]
) -> Iterator[Docker]:
    """Run a daemon, which runs a containerd, with daemon.json and an environment."""
    docker.folder.mkdir()
    names = {"data-root": "data", "exec-root": "exec", "pidfile": "pid", "config-file": "settings"}
    paths = [f"--{name}={docker.folder / part}" for name, part in names.items()]
    (docker.folder / "settings").write_text(json.dumps(settings))
    current = docker.name != "docker"
    program = str(CURRENT / "dockerd") if current else "dockerd"
    search = {"PATH": os.pathsep.join([str(CURRENT), os.environ["PATH"]])} if current else {}
    host = f"--host=unix://{docker.folder}/socket"
    with docker.log.open("w") as output:
        process = subprocess.Popen(
            [program, host, *paths, *_OPTIONS[docker.name], *_NO_NETWORK],
            stdout=output,
            stderr=output,
            env={**os.environ, **search, **environment},
        )
        try:
            wait_until(lambda: _answers(process, docker), "docker version")
            yield docker
        finally:
            process.terminate()
            process.wait(30)


def _answers(process: subprocess.Popen[bytes], docker: Docker) -> bool:
    assert process.poll() is None, docker.log.read_text()
    return execute(*docker.command("version")).returncode == 0
