# SPDX-License-Identifier: Apache-2.0
"""Registries that serve one bucket, each a process of its own that may be killed."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import yaml

from tests.ports import free_port
from tests.stores.process import answers, running

USER, PASSWORD = "pusher", "correct horse"


class Replicas:
    """Starts registries with one configuration; those that still run end with the test."""

    def __init__(
        self, folder: Path, storage: object, trust: ssl.SSLContext | None = None, **settings: Any
    ) -> None:
        self._trust = trust
        self._folder = folder
        self.settings = {"storage": storage, "auth": {"htpasswd": "htpasswd"}, **settings}
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        (folder / "htpasswd").write_text(f"{USER}:{hashed}\n")

    def configure(self, port: int) -> Path:
        """Write the configuration of a registry at a port."""
        path = self._folder / f"{port}.yaml"
        ports = {"single": {"address": "127.0.0.1", "port": port}}
        path.write_text(yaml.safe_dump({"endpoints": ports, **self.settings}))
        return path

    @contextmanager
    def one(self) -> Iterator[Replica]:
        """Run one more."""
        port = free_port()
        config = self.configure(port)
        command = [sys.executable, "-m", "buildset_registry", "serve", "--config", str(config)]
        scheme = "https" if self._trust else "http"
        url = f"{scheme}://127.0.0.1:{port}"

        log = self._folder / f"{port}.log"
        with (
            running(command, log, answers(f"{url}/v2/", 401, self._trust)) as process,
            httpx.Client(
                base_url=url, auth=(USER, PASSWORD), timeout=60, verify=self._trust or True
            ) as client,
        ):
            yield Replica(client, process, log)

    def run(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command with the configuration."""
        config = self.configure(free_port())
        command = [sys.executable, "-m", "buildset_registry", *words, "--config", str(config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


class Replica:
    """A registry that runs, and a client of it."""

    def __init__(self, client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
        self.client = client
        self.process = process
        self.log = log

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()
