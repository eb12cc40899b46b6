# SPDX-License-Identifier: Apache-2.0
"""Running registries: started with an empty folder, stopped at the end, each by its own process."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.client import Client, Refused
from bench.content import Image
from bench.identity import Identity
from bench.peers import Peer, Place
from bench.services import Bucket
from tests.ports import free_port

_START_SECONDS = 60
_STOP_SECONDS = 30
_FINISH_SECONDS = 120
#: distribution 3 would look for a collector of traces; Go trusts what SSL_CERT_FILE holds.
_ENVIRONMENT = {"OTEL_TRACES_EXPORTER": "none"}


class NotStarted(Exception):
    """A peer that is not here, or that does not answer."""


@dataclass
class Instance:
    """A registry that answers, and how to reach it."""

    peer: Peer
    place: Place
    pid: int
    ready_seconds: float
    prepared: set[str] = field(default_factory=set)
    """What it has been given already."""

    @property
    def pull_url(self) -> str:
        """Where it is pulled from."""
        return f"https://127.0.0.1:{self.place.pull_port}"

    @property
    def push_url(self) -> str:
        """Where it is pushed to."""
        return f"https://127.0.0.1:{self.place.push_port}"

    def puller(self) -> Client:
        """Return a client that pulls."""
        return self._client(self.place.pull_port, login=self.peer.login)

    def pusher(self) -> Client:
        """Return a client that pushes."""
        return self._client(self.place.push_port, login=self.peer.login or self.peer.two_ports)

    def _client(self, port: int, *, login: bool) -> Client:
        place = self.place
        return Client(port, place.identity.trust, login=login, address=place.address)

    def pull_login(self) -> list[str]:
        """Return the header that pulls need, if any."""
        with self.puller() as client:
            return [f"{key}: {value}" for key, value in client.login.items()]

    def push_login(self) -> list[str]:
        """Return the header that pushes need, if any."""
        with self.pusher() as client:
            return [f"{key}: {value}" for key, value in client.login.items()]

    def finish(self) -> None:
        """Wait for what it does after its answers: nobody else's measure is to pay for that."""
        staged = self.place.data / "buildset-registry" / "staged"
        deadline = time.monotonic() + _FINISH_SECONDS
        while any(names for _top, _folders, names in os.walk(staged)):
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)

    def forget(self, since: float) -> None:
        """Remove the large files that were pushed since then, which nothing asks for again."""
        self.finish()
        for path in self.place.data.rglob("*"):
            with suppress(FileNotFoundError):
                state = path.lstat()
                if path.is_file() and state.st_ctime > since and state.st_size > 1 << 16:
                    path.unlink()
        os.sync()

    def give(self, name: str, tag: str, image: Image) -> None:
        """Let it have an image: by a push, or by files for what only serves files."""
        if self.peer.files:
            write_files(self.place.data, name, tag, image)
            return
        with self.pusher() as client:
            for layer in image.layers:
                client.push_file(name, layer)
            client.push(name, image.config)
            client.push_manifest(name, tag, image.manifest)


def write_files(root: Path, name: str, tag: str, image: Image) -> None:
    """Lay an image out as files, each at the path by which it is pulled."""
    blobs, manifests = (root / "v2" / name / kind for kind in ("blobs", "manifests"))
    blobs.mkdir(parents=True, exist_ok=True)
    manifests.mkdir(exist_ok=True)
    for layer in image.layers:
        shutil.copyfile(layer.path, blobs / layer.digest)
    (manifests / tag).write_bytes(image.manifest)


@contextmanager
def running(
    peer: Peer,
    folder: Path,
    identity: Identity,
    upstream: str | None = None,
    bucket: Bucket | None = None,
    address: str = "127.0.0.1",
) -> Iterator[Instance]:
    """Start a peer on free ports with nothing in its folder; yields it when it answers."""
    shutil.rmtree(folder, ignore_errors=True)
    port = free_port()
    other = free_port() if peer.two_ports else port
    place = Place(folder, port, other, identity, upstream, address, bucket)
    folder.mkdir(parents=True)
    place.data.mkdir(exist_ok=True)
    place.settings.write_text(peer.settings(place))
    environment = {**os.environ, **_ENVIRONMENT, "SSL_CERT_FILE": str(identity.authority)}
    with (folder / "log").open("wb") as log:
        started = time.perf_counter()
        try:
            process = subprocess.Popen(peer.command(place), stdout=log, stderr=log, env=environment)
        except FileNotFoundError as error:
            raise NotStarted(f"{peer.name} is not installed: {error}") from None
        try:
            _wait(process, place, peer)
            yield Instance(peer, place, process.pid, time.perf_counter() - started)
        finally:
            _stop(process)
    shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], place: Place, peer: Peer) -> None:
    """Ask ``/v2/`` until it is answered, with 200 or with the wish for a login."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            connection = http.client.HTTPSConnection(
                place.address, place.pull_port, context=place.identity.trust, timeout=10
            )
            connection.request("GET", "/v2/")
            status = connection.getresponse().status
            connection.close()
            if status in (200, 401):
                return
            raise Refused(f"{peer.name} answers /v2/ with {status}")
        except OSError:
            log = (place.folder / "log").read_text(errors="replace")[-500:]
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotStarted(f"{peer.name} does not start: {log}") from None
            time.sleep(0.002)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
