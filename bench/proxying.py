# SPDX-License-Identifier: Apache-2.0
"""Cold pull-through: a registry that has nothing yet, and clients that all want the same image.

Upstream is nginx with the image in files; its log tells how many bytes it has sent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.content import Image
from bench.figures import GIB, Figure
from bench.instances import Instance, running, write_files
from bench.load import Curl, Pull, pull_all
from bench.peers import Peer, nginx, nginx_command
from bench.processes import watched
from bench.run import Run

_NAME = "bench/image"
_UPSTREAM = Peer(
    "upstream", "nginx", nginx_command, lambda place: nginx(place, counted=True), files=True
)


def one(instance: Instance, run: Run) -> Figure:
    """Seconds until one client has the image."""
    return _cold(instance, run, 1)


def crowd(instance: Instance, run: Run) -> Figure:
    """Seconds until each client of many has it."""
    return _cold(instance, run, run.crowd)


def _cold(instance: Instance, run: Run, clients: int) -> Figure:
    image = run.content.image("cold")
    folder = run.folder / f"{instance.peer.name}-cold"
    with upstream_with(image, run) as upstream:
        direct = _first_byte(_pull(upstream, image, 1))
        sent = upstream.place.folder / "sent"
        before = _sent(sent)
        with running(instance.peer, folder, run.identity, upstream.pull_url) as fresh:
            run.settle()
            with watched(fresh.pid) as usage:
                pulls = _pull(fresh, image, clients)
            unique = image.size + len(image.manifest)
            ratio = (_settled(sent) - before) / unique
    first = (_first_byte(pulls) - direct) * 1000
    size = image.size * clients / GIB
    return Figure.of(usage.seconds, usage, size, upstream_ratio=ratio, first_byte_ms=first)


@contextmanager
def upstream_with(image: Image, run: Run) -> Iterator[Instance]:
    """Serve an image by nginx."""
    with running(_UPSTREAM, run.folder / "upstream", run.identity) as upstream:
        write_files(upstream.place.data, _NAME, "latest", image)
        yield upstream


def _pull(registry: Instance, image: Image, clients: int) -> list[Pull]:
    """Pull the image by clients at once: the manifest, then its layers."""
    base, trust = f"{registry.pull_url}/v2/{_NAME}", registry.place.identity.authority
    layers = [f"{base}/blobs/{layer.digest}" for layer in image.layers]
    asking = [Curl([f"{base}/manifests/latest"], [], trust) for _ in range(clients)]
    pull_all(asking, len(image.manifest) * clients)
    return pull_all([Curl(layers, [], trust) for _ in range(clients)], image.size * clients)


def _first_byte(pulls: list[Pull]) -> float:
    return median(pull.first_byte for pull in pulls)


def _sent(log: Path) -> int:
    return sum(map(int, log.read_text().split()))


def _settled(log: Path) -> int:
    """Return the bytes sent when no more are: a request's line comes at its end."""
    known = -1
    while known != (now := _sent(log)):
        known = now
        time.sleep(0.3)
    return now
