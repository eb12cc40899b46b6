# SPDX-License-Identifier: Apache-2.0
"""A registry that is killed again and again while clients push, pull, delete and collect."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from buildset_registry.errors import ConfigError
from buildset_registry.server.control_socket import ask_server

from tests.reliability.server import (
    BROKEN,
    Answer,
    Client,
    Server,
    digest_of,
    files_below,
    manifest,
)

KINDS = ("push", "pull-through", "delete", "race", "collection")
#: What the disk does before every second kill.
FAULTS = ("", "EIO", "", "ENOSPC")
#: Tags that are pushed beside the removal of what they lead to.
RACED = ("a", "b")
#: Bytes of the largest layer that is pushed.
LARGEST = 256 * 1024
#: Images looked at after each restart, besides those that are new.
SAMPLE = 20
#: Seconds to wait, on a machine that does much else, for what a kill is to meet.
PATIENCE = 60.0
#: Seconds that the registry waits at its end for a disk that has others to serve.
CLOSING = 10.0


@dataclass(frozen=True)
class Image:
    """What was acknowledged: a tag, its manifest's digest, and the blobs."""

    name: str
    tag: str
    digest: str
    blobs: tuple[str, ...]


@dataclass
class Outcome:
    """What a run came to."""

    kills: int = 0
    in_flight: Counter[str] = field(default_factory=Counter)
    """Requests that were under way at a kill, by kind."""
    killed_with: Counter[str] = field(default_factory=Counter)
    """Kills at which a kind had any under way."""
    acknowledged: int = 0
    pulled: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Answers by what the disk did."""
    tags: int = 0
    """Tags that lead somewhere, of those that raced with deletes."""

    @property
    def figures(self) -> str:
        kinds = ", ".join(
            f"{kind} {self.in_flight[kind]} (at {self.killed_with[kind]} kills)" for kind in KINDS
        )
        return (
            f"killed {self.kills} times with requests in flight: {kinds}; "
            f"{self.acknowledged} images acknowledged, all there; {self.pulled} pulled through; "
            f"refused by a disk that fails: {dict(self.refused)}; "
            f"{self.tags} tags raced with deletes, none dangles"
        )


class Storm:
    """The clients of one registry, and what they know to be there."""

    def __init__(self, server: Server, upstream: dict[str, bytes], chance: random.Random) -> None:
        self.server = server
        self.outcome = Outcome()
        self._upstream = upstream
        self._chance = chance
        self._images: list[Image] = []
        self._new: list[Image] = []
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._gate = threading.Condition(self._lock)
        self._waiting = 0
        """Clients that wait for the registry, and have asked nothing of it."""

        self._alive = threading.Event()
        self._ended = threading.Event()
        self._failures: list[BaseException] = []
        self._pulls = iter(list(upstream))
        self._racers: set[int] = set()
        self._clients: dict[int, Client] = {}
        self._fault = ""

    def run(self, kills: int) -> None:
        """Let the clients work, and kill the registry that often."""
        jobs: Sequence[Callable[[int], None]] = (
            *(self._push, self._push, self._push, self._pull_through, self._pull_through),
            *(self._delete, self._delete, self._collect),
            *(self._race, self._race, self._remove_raced),
        )
        threads = [
            threading.Thread(target=self._work, args=(job, number))
            for number, job in enumerate(jobs)
        ]
        for thread in threads:
            thread.start()
        try:
            # Something is to be lost, however slow the machine is.
            self._let_in()
            self._wait_until(lambda: bool(self._new and self.outcome.pulled))
            for number in range(kills):
                self._round(KINDS[number % len(KINDS)], FAULTS[number % len(FAULTS)], len(jobs))
        finally:
            self._ended.set()
            self._let_in()
            for thread in threads:
                thread.join()
        if self._failures:
            raise self._failures[0]
        self._check(self._images)
        self.outcome.acknowledged = len(self._images)

    def _let_in(self) -> None:
        """Let the clients work."""
        with self._gate:
            self._alive.set()
            self._gate.notify_all()

    def _round(self, kind: str, fault: str, clients: int) -> None:
        """Serve for a moment, kill while a request of a kind is under way, and look at what is."""
        self._let_in()
        time.sleep(self._chance.uniform(0.05, 0.5))
        if fault:
            self._fault = fault
            self.server.fail(fault)
            time.sleep(self._chance.uniform(0.05, 0.5))
        self._wait_until(lambda: bool(self._running[kind]))
        with self._lock:
            self._alive.clear()
            flying = +self._running
            self.server.kill()
        self.outcome.kills += 1
        self.outcome.in_flight += flying
        self.outcome.killed_with.update(flying.keys())
        # Nobody is to judge an answer, or to ask once more, when the disk is well again.
        self._wait_until(lambda: self._waiting == clients)
        self.server.fail("")
        self.server.start()
        self._fault = ""
        with self._lock:
            fresh, self._new = self._new, []
            sample = self._chance.sample(self._images, min(SAMPLE, len(self._images)))
            self._images += fresh
        self._check(fresh + sample)
        self._check_tags()

    def _wait_until(self, happens: Callable[[], bool]) -> None:
        """Wait with patience; what never happens is found when the outcome is checked."""
        deadline = time.monotonic() + PATIENCE
        while not happens() and not self._failures and time.monotonic() < deadline:
            time.sleep(0.0005)

    def _check(self, images: list[Image]) -> None:
        """Read images back, every byte; what was acknowledged has to be there."""
        client = self.server.client()
        for image in images:
            got = client.ask("GET", f"/v2/{image.name}/manifests/{image.tag}")
            assert got.status == 200, (image, got.content)
            assert digest_of(got.content) == image.digest, image
            for blob in image.blobs:
                content = client.ask("GET", f"/v2/{image.name}/blobs/{blob}")
                assert content.status == 200, (image, content.content)
                assert digest_of(content.content) == blob, image
        client.close()

    def _check_tags(self) -> None:
        """Ask for each tag that is listed; a tag that leads nowhere is worse than none."""
        client = self.server.client()
        for worker in self._racers:
            listed = client.ask("GET", f"/v2/raced/{worker}/tags/list")
            if listed.status == 404:
                continue
            for tag in json.loads(listed.content)["tags"] or ():
                got = client.ask("GET", f"/v2/raced/{worker}/manifests/{tag}")
                assert got.status == 200, (worker, tag, got.content)
                self.outcome.tags += 1
        client.close()

    def _accepted(self, answer: Answer, status: int) -> bool:
        """Tell whether an answer is what is right; only a disk that fails excuses a refusal."""
        if answer.status == status:
            return True
        fault = self._fault
        assert fault, (answer.status, answer.content)
        assert answer.status >= 500 and b'"errors"' in answer.content, (fault, answer)
        self.outcome.refused[f"{fault} {answer.status}"] += 1
        return False

    def _work(self, job: Callable[[int], None], number: int) -> None:
        """Repeat a job; a registry that is killed under it is waited for."""
        while not self._ended.is_set():
            with self._gate:
                self._waiting += 1
                self._gate.wait_for(self._alive.is_set)
                self._waiting -= 1
            try:
                job(number)
            except (*BROKEN, ConfigError):
                continue
            except BaseException as error:
                self._failures.append(error)
                return

    def _client(self, worker: int, *, pull: bool = False) -> Client:
        """Return a worker's client, one connection for all that it asks."""
        if worker not in self._clients:
            self._clients[worker] = self.server.client(pull=pull)
        return self._clients[worker]

    def _works(self) -> bool:
        """Tell whether the registry serves, as far as it is known."""
        return self._alive.is_set() and not self._ended.is_set()

    @contextmanager
    def _flying(self, kind: str) -> Iterator[None]:
        with self._lock:
            self._running[kind] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[kind] -= 1

    def _push(self, worker: int) -> None:
        client = self._client(worker)
        name = f"pushed/{worker}"
        while self._works():
            config = json.dumps({"random": os.urandom(8).hex()}).encode()
            layer = os.urandom(random.randrange(1, LARGEST))
            raw, tag = manifest(config, layer), f"t{os.urandom(6).hex()}"
            with self._flying("push"):
                for content in (config, layer):
                    if not self._accepted(client.push_blob(name, content), 201):
                        return
                if not self._accepted(client.push_manifest(name, tag, raw), 201):
                    return
            with self._lock:
                image = Image(name, tag, digest_of(raw), (digest_of(config), digest_of(layer)))
                self._new.append(image)

    def _pull_through(self, worker: int) -> None:
        client = self._client(worker, pull=True)
        for digest in self._pulls:
            with self._flying("pull-through"):
                answer = client.ask("GET", f"/v2/quay.io/org/app/blobs/{digest}")
            if answer.status == 200:
                assert digest_of(answer.content) == digest, (digest, len(answer.content))
                self.outcome.pulled += 1
            if not self._works():
                return
        self._pulls = iter(list(self._upstream))

    def _delete(self, worker: int) -> None:
        client = self._client(worker)
        name, config = f"deleted/{worker}", b"{}"
        if not self._accepted(client.push_blob(name, config), 201):
            return
        while self._works():
            raw = varied(manifest(config), os.urandom(6).hex())
            if not self._accepted(client.push_manifest(name, "latest", raw), 201):
                return
            with self._flying("delete"):
                gone = client.ask("DELETE", f"/v2/{name}/manifests/{digest_of(raw)}")
            if not self._accepted(gone, 202):
                return

    def _race(self, worker: int) -> None:
        """Push few manifests by few tags again and again, while another client removes them."""
        client = self._client(worker)
        name, config = f"raced/{worker}", b"{}"
        self._racers.add(worker)
        if not self._accepted(client.push_blob(name, config), 201):
            return
        for number, tag in itertools.cycle(enumerate(RACED)):
            if not self._works():
                return
            with self._flying("race"):
                pushed = client.push_manifest(name, tag, varied(manifest(config), str(number)))
            if not self._accepted(pushed, 201):
                return

    def _remove_raced(self, worker: int) -> None:
        client = self._client(worker)
        while self._works():
            digest = digest_of(varied(manifest(b"{}"), str(random.randrange(len(RACED)))))
            for racer in list(self._racers):
                if not self._works():
                    return
                with self._flying("race"):
                    gone = client.ask("DELETE", f"/v2/raced/{racer}/manifests/{digest}")
                if gone.status != 404 and not self._accepted(gone, 202):
                    return

    def _collect(self, worker: int) -> None:
        with self._flying("collection"):
            asyncio.run(ask_server(self.server.storage, lambda progress: None, dry_run=False))
        time.sleep(0.02)


def varied(raw: bytes, mark: str) -> bytes:
    """Return a manifest of its own for each mark."""
    return raw.replace(b"{", b'{"a":"%s",' % mark.encode(), 1)


def require_tidy(server: Server) -> None:
    """Check that a registry that was stopped left nothing half-made, and nothing broken.

    Only a disk that has others to serve excuses a log; it is gone when the next start has ended.
    """
    began = time.monotonic()
    server.stop()
    seconds = time.monotonic() - began
    if strays_of(server) and seconds > CLOSING:
        strays = [path for path in strays_of(server) if path.parent != server.storage / "log"]
        assert strays == [], strays
        server.start()
        server.stop()
    assert strays_of(server) == [], (strays_of(server), seconds)
    verified = server.command("verify", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["problems"] == [], verified.stdout


def strays_of(server: Server) -> list[Path]:
    """Return the files of a registry that are no image's and no upload's."""
    return [
        path
        for path in files_below(server.storage)
        if "_uploads" not in path.parts and path.name not in ("data", "link", "media-type", "lock")
    ]


def contents(number: int, size: int) -> dict[str, bytes]:
    """Return blobs for an upstream, by digest."""
    made = [os.urandom(size) for _ in range(number)]
    return {f"sha256:{hashlib.sha256(content).hexdigest()}": content for content in made}


def run(serve: Callable[..., Server], kills: int, seed: int, *, blobs: int = 200) -> Outcome:
    """Run a storm over a registry and its upstream, and check what is left."""
    upstream = serve("upstream")
    held = contents(blobs, LARGEST)
    client = upstream.client()
    for content in held.values():
        pushed = client.push_blob("org/app", content)
        assert pushed.status == 201, (pushed.status, pushed.content)
    through = {
        "name": "quay.io",
        "url": f"https://127.0.0.1:{upstream.pull_port}",
        "ca": str(upstream.folder / "ca.pem"),
    }
    settings = {"interval": 0, "grace": 60, "untagged": 1, "cache_size": 8 * LARGEST}
    server = serve("registry", fails=True, upstreams=[through], gc=settings)
    storm = Storm(server, held, random.Random(seed))
    storm.run(kills)
    require_tidy(server)
    said = server.log.read_text()
    assert "Traceback" not in said, said[max(0, said.index("Traceback") - 1000) :][:4000]
    return storm.outcome


def check(outcome: Outcome, kills: int) -> None:
    """Require that every kind of request was under way at some kill."""
    assert outcome.kills == kills, outcome.figures
    assert all(outcome.in_flight[kind] for kind in KINDS), outcome.figures
    assert outcome.acknowledged and outcome.pulled and outcome.tags, outcome.figures
    assert {told.split()[0] for told in outcome.refused} == {"EIO", "ENOSPC"}, outcome.figures
