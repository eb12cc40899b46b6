# SPDX-License-Identifier: Apache-2.0
"""Retention over many images while clients pull and push: time, memory, and what they notice."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests.api.years import grow_old
from tests.reliability.server import Answer, Server, digest_of, manifest

REPOSITORIES, IMAGES, TAGS = 10, 30_000, 100_000
#: Of ten images, so many were pulled a short while ago.
USED = 3
CLIENTS = 8
#: Seconds by which a request may take longer.
LONGER = 0.5
RULES = {"rules": [{"keep_pulled_within": "7d"}]}
CONFIG = b"{}"
TOP = "docker/registry/v2"


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def image(number: int) -> bytes:
    """Return the manifest of an image, which has a layer that is not there, as if it were large."""
    return manifest(CONFIG, b"layer %d" % number)


def fill(storage: Path) -> None:
    """Lay out images as they are after years: all are old, and some of them were used since."""
    for number in range(IMAGES):
        raw = image(number)
        digest = digest_of(raw)
        hexadecimal = digest[7:]
        write(storage / TOP / "blobs/sha256" / hexadecimal[:2] / hexadecimal / "data", raw.decode())
        manifests = repository(storage, number) / "_manifests"
        write(manifests / "revisions/sha256" / hexadecimal / "link", digest)
        for tag in tags_of(number):
            write(manifests / "tags" / tag / "current/link", digest)


def use(storage: Path) -> None:
    """Let some images have been used now."""
    for number in filter(is_used, range(IMAGES)):
        revisions = repository(storage, number) / "_manifests/revisions/sha256"
        os.utime(revisions / digest_of(image(number))[7:] / "link")


def repository(storage: Path, number: int) -> Path:
    return storage / TOP / "repositories" / name_of(number)


def name_of(number: int) -> str:
    return f"org/app{number % REPOSITORIES}"


def tags_of(number: int) -> list[str]:
    return [f"t{tag}" for tag in range(number, TAGS, IMAGES)]


def is_used(number: int) -> bool:
    return number // REPOSITORIES % 10 < USED


@dataclass
class Load:
    """Clients that pull and push until they are told to end, and how long each request took."""

    server: Server
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have them at work."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            works = [
                pool.submit(self._push if number % 2 else self._pull, number)
                for number in range(CLIENTS)
            ]
            yield
            self.ended.set()
            for work in works:
                work.result()

    def _ask(self, status: int, work: Callable[[], Answer]) -> None:
        began = time.monotonic()
        answer = work()
        self.seconds.append(time.monotonic() - began)
        if answer.status != status:
            self.wrong.append(f"{answer}")

    def _pull(self, first: int) -> None:
        client = self.server.client(pull=True)
        while not self.ended.is_set():
            for number in filter(is_used, range(first, IMAGES, 997)):
                path = f"/v2/{name_of(number)}/manifests/{tags_of(number)[0]}"
                self._ask(200, partial(client.ask, "GET", path))

    def _push(self, first: int) -> None:
        client, number = self.server.client(), 0
        while not self.ended.is_set():
            number += 1
            layer = b"new %d %d" % (first, number)
            name, tag = f"org/app{first}", f"new-{first}-{number}"
            for content in (CONFIG, layer):
                self._ask(201, partial(client.push_blob, name, content))
            raw = manifest(CONFIG, layer)
            self._ask(201, partial(client.push_manifest, name, tag, raw))
            path = f"/v2/{name}/manifests/{digest_of(raw)}"
            self._ask(200, partial(client.ask, "GET", path))


@pytest.mark.timeout(3600)
def test_a_hundred_thousand_tags_go_beside_eight_clients(serve: Callable[..., Server]) -> None:
    """What was used stays, all else goes, and no request takes half a second longer for it."""
    server = serve(retention=RULES, gc={"interval": 0}, sparse_images=True)
    server.command("gc")
    server.stop()
    fill(server.storage)
    grow_old(server.storage, 30)
    use(server.storage)
    server.start()
    before, idle = Load(server), server.memory()
    with before.running():
        time.sleep(20)
    during = Load(server)
    began = time.monotonic()
    with during.running():
        done = server.command("gc", "--json")
    seconds = time.monotonic() - began
    report = json.loads(done.stdout)
    kinds = [one["kind"] for one in report["removed"]]
    tags, manifests = kinds.count("tag"), kinds.count("manifest")
    print(
        f"{tags} tags and {manifests} manifests went in {seconds:.0f} s "
        f"(the collection {report['seconds']:.0f} s); memory {idle:.0f} MiB before, "
        f"{server.memory('VmHWM'):.0f} MiB at its peak; the longest of {len(before.seconds)} "
        f"requests took {max(before.seconds):.3f} s before, of {len(during.seconds)} "
        f"{max(during.seconds):.3f} s meanwhile"
    )
    kept = [number for number in range(IMAGES) if is_used(number)]
    assert manifests == IMAGES - len(kept)
    assert tags == TAGS - sum(len(tags_of(number)) for number in kept)
    assert not before.wrong + during.wrong
    client = server.client(pull=True)
    for number in kept[::100]:
        path = f"/v2/{name_of(number)}/manifests/{tags_of(number)[-1]}"
        assert client.ask("GET", path).status == 200
    assert max(during.seconds) < max(before.seconds) + LONGER
