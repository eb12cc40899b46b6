# SPDX-License-Identifier: Apache-2.0
"""Pebble, the test server of the people of Let's Encrypt: an authority that speaks ACME."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import trustme

from tests.ports import free_port
from tests.stores.process import listens, running
from tests.stores.programs import go_tool

KEY_ID, HMAC = "of-the-company", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


@dataclass(frozen=True)
class Pebble:
    """One that runs, or is to run."""

    folder: Path
    port: int
    management: int
    #: The port at which it asks for the answers to challenges.
    http_port: int
    ca: Path
    #: Seconds that its certificates live.
    seconds: int
    bound: bool = False

    @property
    def directory(self) -> str:
        """The URL of the directory."""
        return f"https://127.0.0.1:{self.port}/dir"

    @property
    def root(self) -> str:
        """The certificate that verifies what it issues."""
        url = f"https://127.0.0.1:{self.management}/roots/0"
        return httpx.get(url, verify=False).text  # noqa: S501 - of a test's own making

    def write(self) -> Path:
        """Write its configuration."""
        settings: dict[str, object] = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(self.folder / "pebble.pem"),
            "privateKey": str(self.folder / "pebble.key"),
            "httpPort": self.http_port,
            "tlsPort": 1,
            "externalAccountBindingRequired": self.bound,
            "externalAccountMACKeys": {KEY_ID: HMAC},
            "domainBlocklist": ["blocked.example"],
            "retryAfter": {"authz": 1, "order": 1},
            "profiles": {"default": {"description": "short", "validityPeriod": self.seconds}},
        }
        path = self.folder / "pebble.json"
        path.write_text(json.dumps({"pebble": settings}))
        return path

    @contextmanager
    def serving(self, **environment: str) -> Iterator[None]:
        """Run it; it forgets everything at its end."""
        command = [str(go_tool("pebble")), "-config", str(self.write())]
        settings = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", **environment}
        with running(command, self.folder / "pebble.log", listens(self.port), settings):
            yield


def make(folder: Path, http_port: int, *, seconds: int = 3600, bound: bool = False) -> Pebble:
    """Return one that does not run yet."""
    folder.mkdir()
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1", "localhost")
    leaf.cert_chain_pems[0].write_to_path(folder / "pebble.pem")
    leaf.private_key_pem.write_to_path(folder / "pebble.key")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    ports = free_port(), free_port()
    return Pebble(folder, *ports, http_port, folder / "ca.pem", seconds, bound)
