# SPDX-License-Identifier: Apache-2.0
"""Many clients that pull one image, which nobody has yet, through a registry at the same time.

Upstream, the registry and the clients share nothing: the first two are processes of their own, so
that figures are theirs.
"""

import contextlib
import hashlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from pathlib import Path
from subprocess import Popen
from threading import Barrier
from typing import Any

import yaml
from trustme import CA

from tests.api.harness import digest_of
from tests.ports import free_port
from tests.waiting import wait_until

MIB = 1024 * 1024
TOP = Path(__file__).resolve().parents[2]
MANIFEST = "/v2/{}org/app/manifests/v1"
BLOB = "/v2/{}org/app/blobs/{}"


@dataclass(frozen=True)
class Scale:
    """How much of it."""

    clients: int
    mib: int
    upstream_rate: float
    """MiB a second that upstream sends."""

    slow_rate: float
    """MiB a second that one of the clients reads."""


@dataclass
class Image:
    """What upstream has."""

    folder: Path
    layer: str = ""
    config: str = ""

    def make(self, mib: int) -> None:
        """Write an image with one layer of so many MiB, no two of which are alike."""
        blobs = self.folder / "content/v2/org/app/blobs"
        blobs.mkdir(parents=True)
        sha256, pattern = hashlib.sha256(), os.urandom(MIB - 8)
        with (blobs / "layer").open("wb") as file:
            for number in range(mib):
                piece = number.to_bytes(8, "big") + pattern
                sha256.update(piece)
                file.write(piece)
        self.layer = f"sha256:{sha256.hexdigest()}"
        (blobs / "layer").rename(blobs / self.layer)
        self.config = digest_of(b"{}")
        (blobs / self.config).write_bytes(b"{}")
        tree = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": self.config,
                "size": 2,
            },
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": self.layer,
                    "size": mib * MIB,
                }
            ],
        }
        manifests = self.folder / "content/v2/org/app/manifests"
        manifests.mkdir()
        (manifests / "v1").write_text(json.dumps(tree))


@dataclass
class Client:
    """Pulls the image by its own connection and notes when."""

    port: int
    context: ssl.SSLContext
    image: Image
    rate: float | None = None
    first_byte: float = 0.0
    received: int = 0
    finished: float = 0.0
    digest: str = ""
    error: Exception | None = None
    leave: threading.Event = field(default_factory=threading.Event)

    def pull(self, together: Barrier) -> None:
        try:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, context=self.context, timeout=300
            )
            with contextlib.closing(connection):
                connection.connect()
                together.wait()
                for path in (
                    MANIFEST.format("quay.io/"),
                    BLOB.format("quay.io/", self.image.config),
                ):
                    connection.request("GET", path, headers={"Authorization": "Basic YTpi"})
                    answer = connection.getresponse()
                    assert (answer.status, bool(answer.read())) == (200, True), path
                self._pull_layer(connection)
        except Exception as error:
            self.error = error

    def _pull_layer(self, connection: HTTPSConnection) -> None:
        connection.request("GET", BLOB.format("quay.io/", self.image.layer))
        answer = connection.getresponse()
        assert answer.status == 200
        sha256, buffer = hashlib.sha256(), bytearray(256 * 1024)
        view, began = memoryview(buffer), time.monotonic()
        while number := answer.readinto(buffer):
            self.first_byte = self.first_byte or time.monotonic()
            self.received += number
            sha256.update(view[:number])
            if self.rate is not None:
                self.leave.wait(max(began + self.received / self.rate - time.monotonic(), 0))
            if self.leave.is_set():
                return
        self.digest = f"sha256:{sha256.hexdigest()}"
        self.finished = time.monotonic()


@dataclass
class Outcome:
    """What came of it."""

    image: Image
    fast: list[Client]
    slow: Client
    upstream_log: list[dict[str, Any]]
    began: float
    memory_mib: float
    open_blobs: int
    again: tuple[str, Exception | None]

    @property
    def requests(self) -> list[dict[str, float | str | None]]:
        """What upstream was asked, by its own log."""
        return [line for line in self.upstream_log if line["what"] == "begin"]

    @property
    def upstream_ended(self) -> float:
        (line,) = [
            line
            for line in self.upstream_log
            if line["what"] == "end" and line["path"].endswith(self.image.layer)
        ]
        return float(line["at"])

    @property
    def figures(self) -> str:
        """The figures in a line."""
        sending = self.upstream_ended - self.began
        firsts = [client.first_byte - self.began for client in self.fast]
        ends = [client.finished - self.began for client in self.fast]
        return (
            f"{len(self.requests)} upstream requests for {len(self.fast) + 1} clients; "
            f"upstream sent for {sending:.1f} s; "
            f"first bytes after {min(firsts):.2f} to {max(firsts):.2f} s, "
            f"last ones after {min(ends):.1f} to {max(ends):.1f} s; the slow client had "
            f"{self.slow.received / MIB:.1f} MiB then; the registry's memory peaked at "
            f"{self.memory_mib:.0f} MiB"
        )


def run(folder: Path, authority: CA, scale: Scale) -> Outcome:
    """Let the crowd pull, and return what came of it."""
    image = Image(folder / "upstream")
    image.make(scale.mib)
    leaf = authority.issue_cert("127.0.0.1")
    for place in (folder, folder / "upstream"):
        leaf.private_key_and_cert_chain_pem.write_to_path(place / "server.pem")
        leaf.private_key_pem.write_to_path(place / "server.key")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_upstream(folder / "upstream", scale.upstream_rate * MIB))
        pid, port = stack.enter_context(_registry(folder))
        return _pull(folder, image, pid, port, authority, scale)


def _pull(folder: Path, image: Image, pid: int, port: int, authority: CA, scale: Scale) -> Outcome:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    fast = [Client(port, context, image) for _ in range(scale.clients - 1)]
    slow = Client(port, context, image, scale.slow_rate * MIB)
    together = threading.Barrier(scale.clients)
    threads = [threading.Thread(target=one.pull, args=(together,)) for one in (*fast, slow)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads[:-1]:
        thread.join()
    received = slow.received
    slow.leave.set()
    threads[-1].join()
    slow.received = received
    again = Client(port, context, image)
    again.pull(threading.Barrier(1))
    # The server closes what it read from a moment after the client has it.
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not _open_blobs(pid))
    log = folder / "upstream/requests.log"
    return Outcome(
        image,
        fast,
        slow,
        [json.loads(line) for line in log.read_text().splitlines()],
        began,
        _peak_memory(pid),
        _open_blobs(pid),
        (again.digest, again.error),
    )


@contextlib.contextmanager
def _upstream(folder: Path, rate: float) -> Iterator[None]:
    with _program(
        "tests.api.slow_upstream", str(folder), str(rate), log=folder / "output.log"
    ) as process:
        _wait(process, (folder / "port").exists, folder / "output.log")
        yield


@contextlib.contextmanager
def _registry(folder: Path) -> Iterator[tuple[int, int]]:
    port = free_port()
    config = {
        "endpoints": {
            "pull": {"port": port, "address": "127.0.0.1"},
            "push": {"port": free_port(), "address": "127.0.0.1"},
        },
        "storage": "data",
        "tls": {"certificate": "server.pem", "key": "server.key"},
        "upstreams": [
            {
                "name": "quay.io",
                "url": f"https://127.0.0.1:{(folder / 'upstream/port').read_text()}",
                "ca": "ca.pem",
            }
        ],
    }
    (folder / "config.yml").write_text(yaml.safe_dump(config))
    log = folder / "registry.log"
    arguments = ("buildset_registry", "serve", "--config", str(folder / "config.yml"))
    with _program(*arguments, log=log) as process:
        _wait(process, lambda: "serves:" in log.read_text(), log)
        yield process.pid, port


@contextlib.contextmanager
def _program(module: str, *arguments: str, log: Path) -> Iterator[Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=TOP,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _wait(process: Popen[bytes], condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _peak_memory(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def _open_blobs(pid: int) -> int:
    links = Path(f"/proc/{pid}/fd").iterdir()
    return len([link for link in links if link.is_symlink() and link.readlink().name == "data"])


def check(outcome: Outcome) -> None:
    """Check what the specification of pull-through promises, whatever the scale."""
    assert [str(client.error) for client in (*outcome.fast, outcome.slow) if client.error] == []
    assert {client.digest for client in outcome.fast} == {outcome.image.layer}
    paths = sorted((line["method"], line["path"]) for line in outcome.requests)
    image = outcome.image
    assert paths == sorted(
        ("GET", path)
        for path in (
            MANIFEST.format(""),
            BLOB.format("", image.config),
            BLOB.format("", image.layer),
        )
    )
    assert {line["authorization"] for line in outcome.requests} == {None}
    sending = outcome.upstream_ended - outcome.began
    first_bytes = [client.first_byte - outcome.began for client in (*outcome.fast, outcome.slow)]
    assert max(first_bytes) < sending
    assert outcome.slow.received < sum(client.received for client in outcome.fast) / len(
        outcome.fast
    )
    assert outcome.again == (image.layer, None)
    assert outcome.open_blobs == 0
