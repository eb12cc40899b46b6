# SPDX-License-Identifier: Apache-2.0
"""A registry in a process of its own, which can be killed, watched and filled; and its clients."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from trustme import CA

from tests.api.harness import PASSWORD, USER, hash_line
from tests.ports import free_port

MIB = 1024 * 1024
LOGIN = {"Authorization": "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
#: What a request ends with when the server dies.
BROKEN = (OSError, http.client.HTTPException)
_PROGRAM = "buildset_registry"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: http.client.HTTPMessage
    content: bytes


class Client:
    """One connection over TLS, made when it is first used and again after a failure."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.connection = http.client.HTTPSConnection(
            "127.0.0.1", port, context=context, timeout=60
        )

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request with the login and return the answer to it."""
        try:
            self.connection.request(method, path, body, {**LOGIN, **(headers or {})})
            answer = self.connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        except BROKEN:
            self.close()
            raise

    def push_blob(self, name: str, content: bytes) -> Answer:
        """Push a blob in two requests and return the last answer."""
        started = self.ask("POST", f"/v2/{name}/blobs/uploads/")
        if started.status != 202:
            return started
        return self.ask(
            "PUT", f"{started.headers['Location']}?digest={digest_of(content)}", content
        )

    def push_manifest(self, name: str, reference: str, raw: bytes) -> Answer:
        return self.ask(
            "PUT", f"/v2/{name}/manifests/{reference}", raw, {"Content-Type": OCI_MANIFEST}
        )

    def close(self) -> None:
        self.connection.close()


def manifest(config: bytes, *layers: bytes) -> bytes:
    """Return the manifest of an image that consists of these blobs."""

    def descriptor(content: bytes, kind: str) -> dict[str, Any]:
        return {
            "mediaType": f"application/vnd.oci.image.{kind}",
            "digest": digest_of(content),
            "size": len(content),
        }

    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(config, "config.v1+json"),
            "layers": [descriptor(layer, "layer.v1.tar") for layer in layers],
        }
    ).encode()


class Server:
    """``buildset-registry serve`` in a folder; start it as often as it was killed."""

    def __init__(
        self,
        folder: Path,
        authority: CA,
        key: bytes = b"",
        *,
        fails: bool = False,
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.storage = folder / "data"
        self.log = folder / "registry.log"
        self._fails = fails
        self._fault = folder / "fault"
        self.context = ssl.create_default_context()
        authority.configure_trust(self.context)
        self.pull_port, self.push_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []
        folder.mkdir(parents=True, exist_ok=True)
        leaf = authority.issue_cert("127.0.0.1")
        leaf.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        leaf.private_key_pem.write_to_path(folder / "server.key")
        authority.cert_pem.write_to_path(folder / "ca.pem")
        (folder / "htpasswd").write_text(hash_line())
        if key:
            (folder / "token.key").write_bytes(key)
        self._configure(settings)

    def _configure(self, settings: dict[str, Any]) -> None:
        config = {
            "endpoints": {
                "pull": {"port": self.pull_port, "address": "127.0.0.1"},
                "push": {"port": self.push_port, "address": "127.0.0.1"},
            },
            "storage": "data",
            "tls": {"certificate": "server.pem", "key": "server.key"},
            "auth": {"htpasswd": "htpasswd"},
            **settings,
        }
        if "single" in config["endpoints"]:
            self.pull_port = self.push_port = config["endpoints"]["single"]["port"]
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def fail(self, word: str) -> None:
        """Let its disk fail from now on as ``faulty`` says; an empty word ends that."""
        self._fault.write_text(word)

    def start(self, *prefix: str) -> None:
        """Start it, below another program where ``prefix`` names one, and wait until it answers."""
        program = ["tests.reliability.faulty", str(self._fault)] if self._fails else [_PROGRAM]
        command = [*prefix, sys.executable, "-m", *program, "serve", "--config"]
        with self.log.open("ab") as output:
            began = output.tell()
            self._process = subprocess.Popen(
                [*command, str(self.folder / "config.yaml")],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).resolve().parents[2],
            )
        deadline = time.monotonic() + 60
        while b"serves:" not in self.log.read_bytes()[began:] or not self._answers():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def _answers(self) -> bool:
        client = Client(self.push_port, self.context)
        with contextlib.closing(client), contextlib.suppress(OSError):
            return client.ask("GET", "/v2/").status == 200
        return False

    def client(self, *, pull: bool = False) -> Client:
        """Return a client of the push or the pull endpoint."""
        made = Client(self.pull_port if pull else self.push_port, self.context)
        self._clients.append(made)
        return made

    def kill(self) -> None:
        """End it at once, as ``kill -9`` does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(60)

    def stop(self) -> None:
        """End it as a service manager would."""
        for client in self._clients:
            client.close()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)

    def command(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the folder."""
        argv: Sequence[str] = [sys.executable, "-m", _PROGRAM, name]
        return subprocess.run(
            [*argv, "--config", str(self.folder / "config.yaml"), *words],
            capture_output=True,
            text=True,
            timeout=600,
        )

    def memory(self, field: str = "VmRSS") -> float:
        """Return how much memory the process and its children have, in MiB: a field of status."""
        return sum(_memory(pid, field) for pid in [self.pid, *_children(self.pid)])


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    own = [int(word) for word in text.split()]
    return own + [further for child in own for further in _children(child)]


def _memory(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def files_below(folder: Path) -> list[Path]:
    """Return every file below a folder."""
    return [Path(place, name) for place, _, names in os.walk(folder) for name in names]
