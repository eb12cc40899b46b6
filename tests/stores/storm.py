# SPDX-License-Identifier: Apache-2.0
"""Replicas that are killed again and again while clients push, pull, delete and collect.

Each request goes to whichever replica runs. What was acknowledged is written down, and looked for.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.reliability.server import OCI_MANIFEST, digest_of, manifest
from tests.stores.buckets import Bucket
from tests.stores.outcome import Outcome
from tests.stores.replicas import PASSWORD, USER, Replica, Replicas

KINDS = ("push", "pull", "delete", "shared", "collection")
#: What a kill meets, in turn; nothing in particular, now and then.
_MET = ("push", "pull", "", "delete", "shared")
#: Of how many collections one is killed, and how long the next one may take: it waits for the lease
#: of the one that was killed, for a minute.
_KILLED_COLLECTION, _COLLECTION_SECONDS = 12, 900
#: Seconds to wait, on a machine that does much else, for what a kill is to meet.
_PATIENCE = 60.0
#: Seconds between what a client does, and between collections: a registry has to come up meanwhile.
_PAUSE, _COLLECTION_PAUSE = 0.1, 3.0
#: A part has at least this many bytes; every tenth layer has several.
PART = 5 * 1024 * 1024
_SMALL = 200 * 1024
#: A command of two days later, by its own clock and by the service's, with which that is otherwise
#: compared: what nobody wants any more is old by then.
_LATER = """
import sys, time
now = time.time
time.time = lambda: now() + 2 * 24 * 3600
from buildset_registry.cli import main
from buildset_registry.store.objects.clock import ServiceClock

async def compare(*_given):
    pass

ServiceClock.compare = compare
sys.exit(main(sys.argv[1:]))
"""


class BrokenError(Exception):
    """A request was not answered: its replica was killed."""


@dataclass(frozen=True)
class Image:
    """What was acknowledged: a manifest by its tag, and its blobs."""

    name: str
    tag: str
    digest: str
    blobs: tuple[str, ...]


class Storm:
    """Clients of replicas that serve one bucket, and what they know to be there."""

    def __init__(self, replicas: Replicas, chance: random.Random) -> None:
        self.outcome = Outcome()
        self.images: list[Image] = []
        self.shared: set[str] = set()
        """What the shared images may have: they come and go."""

        self.unsure: set[str] = set()
        """What the images have of which nobody knows whether they are: the answer was lost."""

        self._replicas = replicas
        self._chance = chance
        self._collector = replicas.configure(1)  # of commands; nobody listens there
        self._live: dict[int, Replica] = {}
        self._running: dict[int, Counter[str]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._failures: list[BaseException] = []
        self._collecting = 0
        self._gone: list[tuple[str, bytes, list[bytes]]] = []
        self._client = httpx.Client(
            auth=(USER, PASSWORD), timeout=60, trust_env=False, follow_redirects=True
        )

    def run(self, kills: int, number: int = 3) -> None:
        """Let the clients work, kill replicas that often, and look for what was acknowledged."""
        jobs: Sequence[Callable[[], None]] = (
            *(self._push, self._push, self._pull, self._delete),
            *(self._share, self._share, self._revive, self._collect),
        )
        threads = [threading.Thread(target=self._work, args=(job,)) for job in jobs]
        with ExitStack() as stack:
            slots = [stack.enter_context(ExitStack()) for _ in range(number)]
            for index, slot in enumerate(slots):
                self._start(index, slot)
            for thread in threads:
                thread.start()
            try:
                for turn in range(kills):
                    self._kill(turn % number, slots[turn % number], _MET[turn % len(_MET)])
            finally:
                self._ended.set()
                for thread in threads:
                    thread.join()
            if self._failures:
                raise self._failures[0]
            self._look()
            self._look_at_shared()
            self._look_for_removed()
        self._client.close()

    def _start(self, index: int, slot: ExitStack) -> None:
        replica = slot.enter_context(self._replicas.one())
        with self._lock:
            self._live[index] = replica
            self._running[index] = Counter()

    def _kill(self, index: int, slot: ExitStack, kind: str) -> None:
        """Kill a replica while it answers a request of a kind, and start another in its place."""
        time.sleep(self._chance.uniform(0.02, 0.2))
        deadline = time.monotonic() + _PATIENCE
        while not self._running[index][kind] and kind and time.monotonic() < deadline:
            time.sleep(0.0005)
            if self._failures:
                raise self._failures[0]
        with self._lock:
            replica = self._live.pop(index)
            self.outcome.in_flight += +self._running[index]
            replica.kill()
        self.outcome.kills += 1
        slot.close()
        self._start(index, slot)

    @contextmanager
    def _at(self, kind: str) -> Iterator[str]:
        """Yield the URL of a replica that is asked for something of a kind."""
        with self._lock:
            index = self._chance.choice(sorted(self._live))
            url = str(self._live[index].client.base_url)
            running = self._running[index]
            running[kind] += 1
        try:
            yield url
        except httpx.TransportError as error:
            raise BrokenError from error
        finally:
            with self._lock:
                running[kind] -= 1

    def _ask(
        self, kind: str, method: str, path: str, expected: tuple[int, ...], **more: Any
    ) -> httpx.Response:
        """Ask some replica, which has to answer as expected if it lives."""
        with self._at(kind) as url:
            answer = self._client.request(method, url + path, **more)
        assert answer.status_code in expected, (method, path, answer.status_code, answer.text)
        return answer

    def _work(self, job: Callable[[], None]) -> None:
        while not self._ended.wait(_PAUSE) and not self._failures:
            try:
                job()
            except BrokenError:
                continue
            except BaseException as error:
                self._failures.append(error)

    def _layer(self) -> bytes:
        size = self._chance.randrange(1, _SMALL)
        if self._chance.random() < 0.1:
            size = self._chance.randrange(PART, 3 * PART)
        return os.urandom(size)

    def _upload(self, kind: str, name: str, content: bytes) -> None:
        """Push a blob in three requests, each to some replica, and go on when one was killed."""
        location = self._begin(kind, name)
        cut = self._chance.randrange(len(content))
        cut = 0 if cut == 1 else cut  # "0-0" is the range of one byte, and of none
        sent = 0
        while sent < cut:
            # Where it belongs is said: what a replica had on its way when it was killed may arrive
            # after somebody was told how far the upload is.
            chunk: dict[str, Any] = {"content": content[sent:cut]}
            chunk["headers"] = {"Content-Range": f"{sent}-{cut - 1}"}
            try:
                answer = self._ask(kind, "PATCH", location, (202, 416), **chunk)
            except BrokenError:
                answer = self._ask(kind, "GET", location, (204, 404))
                if answer.status_code == 404:
                    raise  # it had brought nothing yet, and may not be known
            location = answer.headers["location"]
            if answer.status_code == 202:
                break
            sent = int(answer.headers["range"].partition("-")[2]) + 1
            sent = 0 if sent == 1 else sent
            self.outcome.resumed += sent > 0
            assert sent <= cut, (sent, cut)
        last: dict[str, Any] = {"content": content[cut:], "params": {"digest": digest_of(content)}}
        last["headers"] = {"Content-Range": f"{cut}-{len(content) - 1}"}
        self._ask(kind, "PUT", location, (201,), **last)

    def _begin(self, kind: str, name: str) -> str:
        answer = self._ask(kind, "POST", f"/v2/{name}/blobs/uploads/", (202,))
        return str(answer.headers["location"])

    def _push(self) -> None:
        name, config = f"pushed/{self._chance.randrange(4)}", os.urandom(40)
        layer, tag = self._layer(), f"t{os.urandom(6).hex()}"
        for content in (config, layer):
            self._upload("push", name, content)
        self._acknowledge("push", name, tag, [config, layer])

    def _acknowledge(self, kind: str, name: str, tag: str, blobs: list[bytes]) -> None:
        raw = manifest(*blobs)
        self._put(kind, name, tag, raw)
        image = Image(name, tag, digest_of(raw), tuple(map(digest_of, blobs)))
        with self._lock:
            self.images.append(image)
        self.outcome.done[kind] += 1

    def _put(self, kind: str, name: str, tag: str, raw: bytes) -> None:
        path, headers = f"/v2/{name}/manifests/{tag}", {"Content-Type": OCI_MANIFEST}
        with self._lock:
            self.unsure |= _digests(raw)
        self._ask(kind, "PUT", path, (201,), content=raw, headers=headers)

    def _pull(self) -> None:
        with self._lock:
            image = self._chance.choice(self.images) if self.images else None
        if image is None:
            time.sleep(0.05)
            return
        self._check(image)
        self.outcome.done["pull"] += 1

    def _check(self, image: Image) -> None:
        """Read an image back, every byte of it."""
        wanted = [(f"manifests/{image.tag}", image.digest)]
        wanted += [(f"blobs/{blob}", blob) for blob in image.blobs]
        for path, digest in wanted:
            answer = self._ask("pull", "GET", f"/v2/{image.name}/{path}", (200, 404))
            if answer.status_code == 404 or digest_of(answer.content) != digest:
                raise AssertionError("lost", image, path, answer.status_code)

    def _delete(self) -> None:
        """Push an image and remove it: it stays removed, and its blobs are garbage."""
        name, blobs = "deleted/app", [os.urandom(40), self._layer()]
        for content in blobs:
            self._upload("delete", name, content)
        raw = manifest(*blobs)
        self._put("delete", name, "latest", raw)
        path = f"/v2/{name}/manifests/{digest_of(raw)}"
        self._ask("delete", "DELETE", path, (202, 404))
        with self._lock:
            self.unsure -= _digests(raw)
            self._gone = [*self._gone[-200:], (name, raw, blobs)]
        self.outcome.done["delete"] += 1

    def _revive(self) -> None:
        """Push again what was removed: a blob that is told to be here is not sent."""
        with self._lock:
            found = self._gone.pop(0) if len(self._gone) > 5 else None
        if found is None:
            time.sleep(0.05)
            return
        name, _raw, blobs = found
        for content in blobs:
            path = f"/v2/{name}/blobs/{digest_of(content)}"
            if self._ask("push", "HEAD", path, (200, 404)).status_code == 404:
                self._upload("push", name, content)
        self._acknowledge("push", name, f"again-{os.urandom(6).hex()}", blobs)

    def _share(self) -> None:
        """Push the same few images by the same few tags, and remove them, at the same time."""
        number = self._chance.randrange(3)
        content = f"shared {number}".encode() * 1000
        raw = manifest(b"{}", content)
        self.shared |= {digest_of(one).partition(":")[2] for one in (raw, content, b"{}")}
        for blob in (b"{}", content):
            self._upload("shared", "shared/app", blob)
        self._put("shared", "shared/app", f"tag-{self._chance.randrange(2)}", raw)
        if self._chance.random() < 0.3:
            path = f"/v2/shared/app/manifests/{digest_of(raw)}"
            self._ask("shared", "DELETE", path, (202, 404))
        self.outcome.done["shared"] += 1

    def _collect(self) -> None:
        """Collect in a process of its own; now and then it is killed, and the next one waits."""
        command = [
            sys.executable,
            "-m",
            "buildset_registry",
            "gc",
            "--config",
            str(self._collector),
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as gc:
            self._collecting += 1
            if self._collecting % _KILLED_COLLECTION == 0:
                time.sleep(self._chance.uniform(1.5, 4))
                gc.kill()
                self.outcome.done["collection killed"] += 1
                return
            said = gc.communicate(timeout=_COLLECTION_SECONDS)[1].decode()
            assert gc.returncode == 0, said
        self.outcome.done["collection"] += 1
        self._ended.wait(_COLLECTION_PAUSE)

    def _look(self) -> None:
        self.outcome.acknowledged = len(self.images)
        for image in self.images:
            self._check(image)
            self.outcome.found += 1

    def _look_at_shared(self) -> None:
        """Ask for each tag that raced with removals: it leads to an image that is whole."""
        listed = self._ask("pull", "GET", "/v2/shared/app/tags/list", (200, 404))
        for tag in listed.json().get("tags") or ():
            raw = self._ask("pull", "GET", f"/v2/shared/app/manifests/{tag}", (200,))
            for one in [raw.json()["config"], *raw.json()["layers"]]:
                self._ask("pull", "HEAD", f"/v2/shared/app/blobs/{one['digest']}", (200,))

    def _look_for_removed(self) -> None:
        """Ask every replica for what was removed: seconds later none has it."""
        paths = [f"/v2/{name}/manifests/{digest_of(raw)}" for name, raw, _blobs in self._gone]
        deadline = time.monotonic() + _PATIENCE
        for path, replica in itertools.product(paths, self._live.values()):
            while replica.client.get(path).status_code != 404:
                if time.monotonic() > deadline:
                    raise AssertionError(path)
                time.sleep(0.1)


def _digests(raw: bytes) -> set[str]:
    """Return what an image has, its manifest included."""
    tree = json.loads(raw)
    found = [digest_of(raw), *(one["digest"] for one in (tree["config"], *tree["layers"]))]
    return {one.partition(":")[2] for one in found}


def clean_up(config: Path) -> dict[str, Any]:
    """Collect two days later, and verify; returns what was found broken."""
    command = [sys.executable, "-c", _LATER]
    done = subprocess.run(
        [*command, "gc", "--config", str(config)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    words = ["-m", "buildset_registry", "verify", "--json", "--config", str(config)]
    verified = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300)
    found: dict[str, Any] = json.loads(verified.stdout)
    return found


def run(replicas: Replicas, bucket: Bucket, kills: int, seed: int | None = None) -> Outcome:
    """Run a storm over a bucket, and see what is left of it two days later."""
    storm = Storm(replicas, random.Random(seed))
    storm.run(kills)
    problems = clean_up(replicas.configure(1))["problems"]
    assert problems == [], problems
    outcome = storm.outcome
    outcome.left = bucket.leftovers()
    kept = {blob.partition(":")[2] for one in storm.images for blob in (one.digest, *one.blobs)}
    blobs = {key.split("/")[-2] for key in bucket.blobs() if key.endswith("/data")}
    assert kept <= blobs
    outcome.unwanted = len(blobs - kept - storm.shared - storm.unsure)
    return outcome


def check(outcome: Outcome, kills: int) -> None:
    """Require that all of it was done, nothing was lost, and nothing is left that no image has."""
    assert outcome.kills == kills
    assert outcome.found == outcome.acknowledged > 0
    assert all(outcome.done[kind] for kind in KINDS), outcome.figures
    assert outcome.unwanted == 0, outcome.figures
    assert outcome.left == [], outcome.figures


def replicas_of(folder: Path, bucket: Bucket) -> Replicas:
    """Return the registries of a storm, which collect whatever is a minute old."""
    storage = {"s3": bucket.server.settings(bucket.name, chunksize=PART)}
    gc = {"interval": 0, "grace": 60, "untagged": 60, "uploads": 60}
    return Replicas(folder, storage, gc=gc)
