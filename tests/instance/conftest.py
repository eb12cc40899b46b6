# SPDX-License-Identifier: Apache-2.0
"""Registries started by the command, in folders of the tests' own."""

import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.ports import free_port


@dataclass
class Answer:
    """An answer, with its whole body."""

    status: int
    headers: Message
    content: bytes


@dataclass
class Desk:
    """One root folder, and the command that works on it."""

    root: Path
    ports: tuple[int, int]

    def run(
        self, *words: object, environment: dict[str, str] | None = None, stdin: str = ""
    ) -> CompletedProcess[str]:
        """Run a command on the folder."""
        name, *rest = map(str, words)
        argv = [sys.executable, "-m", "buildset_registry", name, "--root", str(self.root), *rest]
        return subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            env=os.environ | (environment or {}),
            timeout=100,
        )

    def up(self, *words: object, **options: Any) -> dict[str, Any]:
        """Start the registry on loopback and return its facts and what was changed."""
        fixed: list[object] = ["--host", "127.0.0.1", "--supervisor", "process"]
        if not {"--port", "--push-port", "--single-port"} & set(words):
            fixed += ["--port", self.ports[0], "--push-port", self.ports[1]]
        done = self.run("up", *fixed, "--json", "--report", *words, **options)
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def refused(self, *words: object, **options: Any) -> str:
        """Run a command that has to fail, and return its one line."""
        done = self.run(*words, **options)
        assert done.returncode == 2, done
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert done.stderr.count("\n") == 1
        return done.stderr

    def status(self) -> dict[str, Any]:
        """Return what ``status`` says as JSON."""
        done = self.run("status", "--json")
        assert done.returncode in (0, 3), done.stderr
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def processes(self) -> list[int]:
        """Return the numbers of the processes that work on the folder: supervisor, server."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = entry.read_bytes().decode().split("\0")
                if str(self.root) in words or str(self.root / "config.yaml") in words:
                    found.append(int(entry.parent.name))
        return sorted(found, key=_started)

    def kill(self, *pids: int) -> None:
        """End processes as a crash would, and wait until they are gone."""
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while set(pids) & set(self.processes()):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def ask(
        self,
        facts: dict[str, Any],
        path: str = "/v2/",
        method: str = "GET",
        body: bytes | None = None,
        *,
        which: str = "",
        login: bool = False,
    ) -> Answer:
        """Send a request as a client that trusts the facts' certificate only."""
        context = ssl.create_default_context(cadata=facts["cert"])
        host, port = facts[f"{which}host"], facts[f"{which}port"]
        connection = http.client.HTTPSConnection(host, port, timeout=60, context=context)
        pair = f"{facts['username']}:{facts['password']}".encode()
        headers = {"Authorization": f"Basic {b64encode(pair).decode()}"} if login else {}
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()


def _started(pid: int) -> int:
    """Return when a process was started, in ticks of the system (proc(5)): numbers come again."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return 0


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A folder for a registry, which ends with the test."""
    made = Desk(tmp_path / "root", (free_port(), free_port()))
    yield made
    made.run("down", "--purge")
