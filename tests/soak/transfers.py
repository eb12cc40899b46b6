# SPDX-License-Identifier: Apache-2.0
"""Clients that push and pull in loops: each as its users call it, and without tries of ours."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.clients import daemon
from tests.clients.images import Source, make_large

MEGABYTES = 8


@dataclass
class Client:
    """What a client has: a folder of its own, and how it reaches the registry and logs in."""

    folder: Path
    address: str
    login: str
    certs: Path
    source: Source

    def __post_init__(self) -> None:
        self.folder.mkdir()
        # What docker login would write; podman wants the file that DOCKER_CONFIG leads to.
        (self.folder / "config.json").write_text("{}")
        self.numbers = count()

    def run(self, *words: str | Path, within: Path | None = None) -> None:
        """Run a command that has to succeed, in a folder."""
        environment = os.environ | {"DOCKER_CONFIG": str(self.folder)}
        done = subprocess.run(
            [*map(str, words)],
            capture_output=True,
            text=True,
            env=environment,
            cwd=within,
            timeout=300,
        )
        assert done.returncode == 0, f"{words[0]}: {done.stdout[-500:]}{done.stderr[-500:]}"

    def once(self) -> None:
        """Push once and pull once."""
        raise NotImplementedError

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Have what it needs."""
        yield

    def image(self, name: str, tag: object) -> str:
        """Name an image in the registry."""
        return f"{self.address}/org/{name}:{tag}"


class Skopeo(Client):
    """skopeo, which tries nothing twice."""

    def once(self) -> None:
        """Push to another tag each time, and pull what was pushed first."""
        options: list[str | Path] = ["--dest-creds", self.login, "--dest-cert-dir", self.certs]
        target = f"docker://{self.image('app', next(self.numbers))}"
        self.run("skopeo", "copy", "--quiet", *options, self.source.oci("amd64"), target)
        options = ["--src-creds", self.login, "--src-cert-dir", self.certs]
        pulled = self.folder / "pulled"
        first = f"docker://{self.image('app', 0)}"
        self.run("skopeo", "copy", "--quiet", *options, first, f"oci:{pulled}")
        shutil.rmtree(pulled)


class Podman(Client):
    """podman, on a storage of its own."""

    storage: tuple[str, ...] = ()

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Load the image; podman takes no long name for what it runs from, and makes a name of the
        image of its path, which therefore is short."""
        with tempfile.TemporaryDirectory(prefix="podman-") as place:
            self.storage = "--root", f"{place}/root", "--runroot", f"{place}/run"
            self.storage += "--storage-driver", "vfs"
            layout = self.source.layout
            image = f"oci:{layout.name}:amd64"
            self.run("podman", *self.storage, "pull", "--quiet", image, within=layout.parent)
            yield

    def once(self) -> None:
        """Push an image of its own, and pull skopeo's."""
        podman = ["podman", *self.storage]
        options: list[str | Path] = ["--quiet", "--creds", self.login, "--cert-dir", self.certs]
        listed = subprocess.run([*podman, "images", "--quiet"], capture_output=True, text=True)
        target = f"docker://{self.image('podman', next(self.numbers))}"
        self.run(*podman, "push", *options, listed.stdout.split()[0], target)
        self.run(*podman, "pull", *options, self.image("app", 0))
        self.run(*podman, "rmi", self.image("app", 0))


class Docker(Client):
    """docker by a daemon of its own, for which localhost needs no certificate."""

    host = ""

    def once(self) -> None:
        """Push an image of its own, and pull skopeo's."""
        docker = ["docker", "--host", self.host]
        image = self.image("docker", next(self.numbers))
        self.run(*docker, "tag", self.image("docker", "loaded"), image)
        self.run(*docker, "push", "--quiet", image)
        self.run(*docker, "rmi", image)
        self.run(*docker, "pull", "--quiet", self.image("app", 0))
        self.run(*docker, "rmi", self.image("app", 0))

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Run the daemon, and load the image."""
        pair = base64.b64encode(self.login.encode()).decode()
        auths = {"auths": {self.address: {"auth": pair}}}
        (self.folder / "config.json").write_text(json.dumps(auths))
        log = self.folder / "dockerd.log"
        # The names of sockets are short; what it mounts is seen by nobody else.
        with tempfile.TemporaryDirectory(prefix="docker-") as place:
            self.host = f"unix://{place}/socket"
            words = ["unshare", "--mount", "dockerd", "--host", self.host]
            words += [f"--{name}={place}/{name}" for name in ("data-root", "exec-root", "pidfile")]
            words += [*daemon.STORAGE, *daemon.OPTIONS]
            with daemon.process(log, *words) as started:
                daemon.wait_for(started, log, "docker", "--host", self.host, "version")
                archive = self.source.archive(self.image("docker", "loaded"))
                self.run("docker", "--host", self.host, "load", "--input", archive)
                yield


@contextmanager
def clients(folder: Path, address: str, login: str, ca: str) -> Iterator[dict[str, Client]]:
    """Make the clients, each with an image; skopeo has pushed the one that all pull."""
    certs = folder / "certs"
    certs.mkdir(parents=True)
    (certs / "ca.crt").write_text(ca)
    kinds: dict[str, type[Client]] = {"skopeo": Skopeo, "podman": Podman, "docker": Docker}
    made = {}
    for name, kind in kinds.items():
        source = make_large(folder / f"{name}-image", MEGABYTES)
        made[name] = kind(folder / name, address, login, certs, source)
    with ExitStack() as stack:
        for client in made.values():
            stack.enter_context(client.ready())
        yield made


@contextmanager
def looping(
    works: dict[str, Callable[[], None]],
) -> Iterator[tuple[dict[str, int], threading.Event]]:
    """Do things again and again, side by side, until one fails, and none may.

    Yields how often each was done, and what tells that they have ended.
    """
    done, counts, failures = threading.Event(), dict.fromkeys(works, 0), list[str]()

    def loop(name: str) -> None:
        while not done.is_set():
            try:
                works[name]()
                counts[name] += 1
            except Exception as error:
                failures.append(f"{time.strftime('%X')} {error}")
                done.set()

    threads = [threading.Thread(target=loop, args=(name,)) for name in works]
    for thread in threads:
        thread.start()
    try:
        yield counts, done
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures, failures
