# SPDX-License-Identifier: Apache-2.0
"""A dockerd whose HTTPS proxy is the registry, beside any other, and its client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.clients import daemon, tools

_STORAGE = {"docker": daemon.STORAGE, "docker (current)": daemon.CURRENT_STORAGE}
NAMES = tuple(_STORAGE)


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
        return [*self._client.program, *words]

    def pull(self, reference: str) -> str:
        """Pull an image of which it has nothing, and tell the digest."""
        return self._client.pull(reference).digest

    @property
    def _client(self) -> tools.Docker:
        return tools.Docker(f"unix://{self.folder}/socket")


@contextmanager
def running(
    docker: Docker, settings: Mapping[str, object], environment: Mapping[str, str]
) -> Iterator[Docker]:
    """Run a daemon, which runs a containerd, with daemon.json and an environment."""
    docker.folder.mkdir()
    names = {"data-root": "data", "exec-root": "exec", "pidfile": "pid", "config-file": "settings"}
    paths = [f"--{name}={docker.folder / part}" for name, part in names.items()]
    (docker.folder / "settings").write_text(json.dumps(settings))
    program = "dockerd" if docker.name == "docker" else daemon.CURRENT / "dockerd"
    words = [f"--host=unix://{docker.folder}/socket", *paths, *_STORAGE[docker.name]]
    start = [program, *words, *daemon.OPTIONS]
    with daemon.process(docker.log, *start, variables=environment) as started:
        daemon.wait_for(started, docker.log, *docker.command("version"))
        yield docker
