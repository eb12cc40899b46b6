# SPDX-License-Identifier: Apache-2.0
"""dockerd, started by hand: no service, no bridge, no rule of a firewall."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clients.commands import execute, wait_until

_OPTIONS = ["--storage-driver=vfs", "--iptables=false", "--bridge=none", "--ip-forward=false"]


@contextmanager
def running(log: Path, mirror: str) -> Iterator[None]:
    """Run dockerd, which starts containerd, with a mirror of Docker Hub."""
    settings = Path("/etc/docker/daemon.json")
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps({"registry-mirrors": [f"https://{mirror}"]}))
    with log.open("w") as output:
        process = subprocess.Popen(["dockerd", *_OPTIONS], stdout=output, stderr=output)
        try:
            wait_until(lambda: _answers(process, log), "docker version")
            yield
        finally:
            process.terminate()
            process.wait(30)


def _answers(process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    return execute("docker", "version").returncode == 0
