# SPDX-License-Identifier: Apache-2.0
"""The registry under test: the command starts it, the facts say how to use it."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import ssl
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.clients.commands import run, wait_until


@dataclass
class Registry:
    """A registry in a folder of its own."""

    root: Path
    options: Sequence[str | Path]
    facts: dict[str, Any] = field(default_factory=dict)

    def up(self) -> None:
        """Start it, and take its facts."""
        words = [*self.options, "--supervisor", "process", "--json"]
        self.facts = json.loads(run(*self._command("up"), *words))

    def down(self) -> None:
        """Stop it."""
        run(*self._command("down"))

    def kill(self) -> None:
        """End all its processes at once, as a crash of the machine would."""
        processes = self._processes()
        assert len(processes) >= 2, "a registry is a server and its supervisor"
        for pid in processes:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self._processes(), "the processes are gone")

    def crash(self) -> None:
        """End the server; its supervisor stays."""
        (server,) = (pid for pid, words in self._processes().items() if "serve" in words)
        os.kill(server, signal.SIGKILL)

    def arriving(self) -> int:
        """Tell how many bytes of unfinished uploads there are."""
        uploads = self.root.glob("data/docker/registry/v2/repositories/**/_uploads/*/data")
        with suppress(FileNotFoundError):
            return sum(path.stat().st_size for path in uploads)
        return 0

    def _processes(self) -> dict[int, list[str]]:
        """Find the processes that name the folder, with their words."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = entry.read_bytes().decode().split("\0")
                if any(word.startswith(str(self.root)) for word in words):
                    found[int(entry.parent.name)] = words
        return found

    def _command(self, name: str) -> list[str]:
        return [sys.executable, "-m", "buildset_registry", name, "--root", str(self.root)]

    @property
    def pull(self) -> str:
        """Tell the address to pull from."""
        return f"{self.facts['host']}:{self.facts['port']}"

    @property
    def push(self) -> str:
        """Tell the address to push to."""
        return f"{self.facts['push_host']}:{self.facts['push_port']}"

    @property
    def log(self) -> str:
        """Read what it logged."""
        return (self.root / "log" / "registry.log").read_text()

    def status_of(self, user: str, password: str) -> int:
        """Tell how the push endpoint answers a login."""
        return self._ask("/v2/", user, password)[0]

    def repositories(self) -> list[str]:
        """List what the store holds."""
        facts = self.facts
        answer = self._ask("/v2/_catalog", facts["username"], facts["password"])[1]
        return list(json.loads(answer)["repositories"])

    def run(self, name: str, *words: str | Path) -> str:
        """Run another command on it, which has to succeed."""
        return run(*self._command(name), *words)

    def _ask(self, path: str, user: str, password: str) -> tuple[int, bytes]:
        context = ssl.create_default_context(cadata=self.facts["cert"])
        host, port = self.facts["push_host"], self.facts["push_port"]
        connection = http.client.HTTPSConnection(host, port, timeout=20, context=context)
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        try:
            connection.request("GET", path, headers={"Authorization": f"Basic {pair}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def trust(address: str, certificate: str) -> Iterator[None]:
    """Let all clients trust a certificate for an address: podman reads docker's folder, too."""
    folder = Path("/etc/docker/certs.d", address)
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text(certificate)
    try:
        yield
    finally:
        shutil.rmtree(folder)


@contextmanager
def running(root: Path, *options: str | Path) -> Iterator[Registry]:
    """Run a registry that all clients trust."""
    registry = Registry(root, options)
    registry.up()
    try:
        with ExitStack() as trusted:
            for address in {registry.pull, registry.push}:
                trusted.enter_context(trust(address, registry.facts["cert"]))
            yield registry
    finally:
        registry.down()
