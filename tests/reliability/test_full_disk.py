# SPDX-License-Identifier: Apache-2.0
"""A disk that fills up: clear refusals, nothing lost, and work again once there is room."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from buildset_registry.ledger.files import read_ledger
from buildset_registry.report.summary import summarize

from tests.reliability.server import MIB, Answer, Client, Server, digest_of, manifest
from tests.waiting import wait_until

DISK = 48 * MIB
BALLAST = 24 * MIB
CLIENTS = 4
#: A disk of its own for the storage, in a mount namespace that nobody else is in.
MOUNT = f'mkdir -p "$0" && mount -t tmpfs -o size={DISK} full "$0" && exec "$@"'


@pytest.fixture(params=[None, 0], ids=["floor", "to the last byte"])
def small(request: pytest.FixtureRequest, serve: Callable[..., Server], tmp_path: Path) -> Server:
    """A registry on a small disk, half of which something else takes."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    storage = str(tmp_path / "registry/data")
    below = ["unshare", "--mount", *user, "sh", "-c", MOUNT, storage]
    limits = {} if request.param is None else {"free_bytes": request.param}
    server = serve(below=below, limits=limits)
    ballast(server).write_bytes(bytes(BALLAST))
    return server


def ballast(server: Server) -> Path:
    """Return the path of a file on the registry's disk, as seen from here."""
    return Path(f"/proc/{server.pid}/root{server.storage}/ballast")


class Pusher:
    """Pushes images until one is refused, and remembers what was acknowledged."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self.acknowledged: dict[str, bytes] = {}
        self.refusals: list[Answer] = []

    def push(self) -> None:
        number = 0
        while not self.refusals:
            self.push_image(f"v{number}")
            number += 1

    def push_image(self, tag: str) -> None:
        layer, config = os.urandom(MIB), b'{"tag": "%s-%s"}' % (self.name.encode(), tag.encode())
        for content in (layer, config):
            if not self._noted(self.client.push_blob(self.name, content)):
                return
            self.acknowledged[f"blobs/{digest_of(content)}"] = content
        raw = manifest(config, layer)
        if self._noted(self.client.push_manifest(self.name, tag, raw)):
            self.acknowledged[f"manifests/{tag}"] = raw

    def _noted(self, answer: Answer) -> bool:
        if answer.status != 201:
            self.refusals.append(answer)
        return answer.status == 201

    def check(self, client: Client) -> None:
        """Read all that was acknowledged."""
        for path, content in self.acknowledged.items():
            answer = client.ask("GET", f"/v2/{self.name}/{path}")
            assert (answer.status, answer.content == content) == (200, True), path


def test_a_full_disk(small: Server) -> None:
    """Each push that finds no room is told so by 507; all others are there; then it goes on."""
    pushers = [Pusher(small.client(), f"app{number}") for number in range(CLIENTS)]
    threads = [threading.Thread(target=pusher.push) for pusher in pushers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refusals = [answer for pusher in pushers for answer in pusher.refusals]
    assert Counter(answer.status for answer in refusals) == {507: CLIENTS}
    for answer in refusals:
        assert b"the disk of the registry is full" in answer.content
    full = Pusher(small.client(), "full")
    full.push()
    assert [answer.status for answer in full.refusals] == [507]
    reader = small.client(pull=True)
    for pusher in (*pushers, full):
        pusher.check(reader)
    assert "Traceback" not in small.log.read_text()
    check_that_it_goes_on(small, pushers, full)


def check_that_it_goes_on(small: Server, pushers: list[Pusher], full: Pusher) -> None:
    """Make room, push an image more, and find the old ones unchanged."""
    ballast(small).unlink()
    late = Pusher(small.client(), "late")
    late.push_image("v1")
    assert late.refusals == []
    reader = small.client(pull=True)
    for pusher in (*pushers, full, late):
        pusher.check(reader)
    number = sum(len(pusher.acknowledged) for pusher in pushers)
    assert list((ballast(small).parent / "tmp").iterdir()) == []
    print(f"{number} blobs and manifests acknowledged before the disk was full, all there")


def test_pulls_go_on_where_the_ledger_s_disk_is_full(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    """What it does not take is counted, and the report says what it lacks once there is room."""
    storage = tmp_path / "registry/data"
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    below = ["unshare", "--mount", *user, "sh", "-c", MOUNT, str(storage)]
    server = serve(below=below, ledger={"folder": "data/ledger", "size": 1 << 30})
    pusher = Pusher(server.client(), "app")
    pusher.push_image("v1")
    fill(ballast(server))
    reader = server.client(pull=True)
    pulls = 0

    def pull(until: float) -> None:
        nonlocal pulls
        while time.monotonic() < until or pulls < 3000:
            agent = {"User-Agent": f"{pulls} ".ljust(512, "x")}
            assert reader.ask("GET", "/v2/app/manifests/v1", headers=agent).status == 200
            pulls += 1

    pull(0.0)
    wait_until(lambda: "the ledger cannot be written: No space left" in server.log.read_text())
    pull(time.monotonic() + 2)  # some rounds of the ledger's, with more than it lets wait
    ballast(server).unlink()
    folder = ballast(server).parent / "ledger"
    wait_until(lambda: any(row["kind"] == "lost" for row in read_ledger(folder).rows))
    content = read_ledger(folder)
    report = summarize(content, "registry", "now", {})
    (gap,) = report.gaps
    assert gap.endswith("it could not be written: No space left on device")
    lost = int(gap.partition(" ")[0])
    # Of the start, the push and the pulls; and the row that tells of the loss.
    assert 0 < lost < pulls and len(content.rows) - 1 == 2 + pulls - lost
    pusher.check(reader)


def fill(file: Path) -> None:
    """Take all the room that is left."""
    with suppress(OSError), file.open("wb", buffering=0) as out:
        while out.write(bytes(4096)):
            pass
