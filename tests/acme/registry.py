# SPDX-License-Identifier: Apache-2.0
"""A registry whose certificate comes by ACME, in a process of its own, and what a client sees."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography import x509

from tests.acme.pebble import Pebble
from tests.api.harness import PASSWORD, USER, hash_line
from tests.ports import free_port
from tests.stores.process import listens, running
from tests.waiting import wait_until

SECONDS = 40


class AcmeRegistry:
    """One replica: its settings of ACME are pebble's, and what a test adds."""

    def __init__(self, place: Path, pebble: Pebble, **acme: Any) -> None:
        self.folder, self.log = place, place / "registry.log"
        # Pebble's port is free, too, as long as nobody answers its challenges.
        free = (port for port in iter(free_port, None) if port != pebble.http_port)
        self.port, self.metrics_port = next(free), next(free)
        self.acme = {
            "names": ["localhost"],
            "directory": pebble.directory,
            "ca": str(pebble.ca),
            "port": pebble.http_port,
            "retry_seconds": 1,
            **acme,
        }
        self.settings: dict[str, Any] = {"storage": "data"}
        place.mkdir()
        (place / "htpasswd").write_text(hash_line())

    @property
    def config(self) -> Path:
        """The configuration file, written as it is to be."""
        path = self.folder / "config.yaml"
        tree = {
            "endpoints": {"single": {"port": self.port}},
            "auth": {"htpasswd": "htpasswd"},
            "metrics": {"port": self.metrics_port},
            "acme": self.acme,
            **self.settings,
        }
        path.write_text(yaml.safe_dump(tree))
        return path

    def command(self) -> list[str]:
        """Return the command that serves."""
        return [sys.executable, "-m", "buildset_registry", "serve", "--config", str(self.config)]

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run it; what it says is in ``log``."""
        with running(self.command(), self.log, listens(self.port)) as process:
            yield process

    def said(self, *words: str) -> bool:
        """Tell whether a line of the log has all these words."""
        lines = self.log.read_text().splitlines()
        return any(all(word in line for word in words) for line in lines)

    def shown(self) -> x509.Certificate:
        """Return the certificate that it shows to a client."""
        pem = ssl.get_server_certificate(("127.0.0.1", self.port), timeout=60)
        return x509.load_pem_x509_certificate(pem.encode())

    def issued(self) -> bool:
        """Tell whether it shows one that pebble has issued."""
        return "Pebble" in self.shown().issuer.rfc4514_string()

    def wait_until_issued(self) -> None:
        wait_until(self.issued, self.log.read_text())

    def client(self, root: str) -> httpx.Client:
        """Return a client that trusts what pebble issues."""
        context = ssl.create_default_context(cadata=root)
        url = f"https://localhost:{self.port}"
        return httpx.Client(base_url=url, verify=context, auth=(USER, PASSWORD), trust_env=False)

    def metric(self, name: str) -> float:
        """Return a number of the listener for operators."""
        text = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", trust_env=False).text
        found = re.search(rf"^buildset_registry_{re.escape(name)} (\S+)$", text, re.MULTILINE)
        assert found, text
        return float(found[1])


def taken(port: int) -> socket.socket:
    """Take a port, as another program does."""
    return socket.create_server(("", port))
