# SPDX-License-Identifier: Apache-2.0
"""dockerd, started by hand: no service, no bridge, no rule of a firewall."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.clients.commands import execute, wait_until

_OPTIONS = ["--storage-driver=vfs", "--iptables=false", "--bridge=none", "--ip-forward=false"]


@dataclass(frozen=True)
class Place:
    """Where a daemon keeps what it has; the first is where docker's client looks by itself."""

    folder: Path | None = None

    @property
    def client(self) -> list[str]:
        """Return the command of the client."""
        return ["docker", f"--host=unix://{self.folder}/docker.sock"] if self.folder else ["docker"]

    @property
    def settings(self) -> Path:
        """Return the path of daemon.json."""
        return (self.folder or Path("/etc/docker")) / "daemon.json"

    @property
    def options(self) -> list[str]:
        """Return what the daemon is started with, to leave the first one alone."""
        if not self.folder:
            return []
        names = {"data-root": "data", "exec-root": "exec", "pidfile": "pid", "config-file": ""}
        paths = {name: self.folder / (part or "daemon.json") for name, part in names.items()}
        return [*self.client[1:], *(f"--{name}={path}" for name, path in paths.items())]


@contextmanager
def running(
    log: Path,
    settings: Mapping[str, object],
    place: Place = Place(),
    environment: Mapping[str, str] | None = None,
) -> Iterator[list[str]]:
    """Run dockerd, which starts containerd, and give the command of its client."""
    place.settings.parent.mkdir(parents=True, exist_ok=True)
    place.settings.write_text(json.dumps(settings))
    command = ["dockerd", *_OPTIONS, *place.options]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
        )
        try:
            wait_until(lambda: _answers(process, log, place), "docker version")
            yield place.client
        finally:
            process.terminate()
            process.wait(30)


def _answers(process: subprocess.Popen[bytes], log: Path, place: Place) -> bool:
    assert process.poll() is None, log.read_text()
    return execute(*place.client, "version").returncode == 0
