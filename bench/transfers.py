# SPDX-License-Identifier: Apache-2.0
"""Large blobs and whole images, pushed and pulled; megabytes (10^6) a second."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from bench.client import Blob, Refused
from bench.content import Image
from bench.figures import GIB, Figure
from bench.instances import Instance
from bench.load import Curl, pull_all
from bench.processes import watched
from bench.run import Run

_AT_ONCE = 3
_CROWD = 20
_LAST_BYTES = 120_000_000
#: Each round pushes other content by each of the two ways.
_WAYS = 2


def push_patch(instance: Instance, run: Run) -> Figure:
    """Push a blob as docker does."""
    return _push(instance, run, run.turn * _WAYS, whole=False)


def push_whole(instance: Instance, run: Run) -> Figure:
    """Push a blob in one request."""
    return _push(instance, run, run.turn * _WAYS + 1, whole=True)


def _push(instance: Instance, run: Run, number: int, *, whole: bool) -> Figure:
    blob = run.content.blob("push", run.content.size, number)
    since = time.time()
    with instance.pusher() as client:
        run.settle()
        with watched(instance.pid) as usage:
            client.push_file("bench/push", blob, whole=whole)
        if not client.has_blob("bench/push", blob):
            raise Refused("the blob is not there after its push")
    instance.forget(since)
    return Figure.of(blob.size / usage.seconds / 1e6, usage, blob.size / GIB)


def last_put(instance: Instance, run: Run) -> Figure:
    """Seconds of the PUT after a PATCH that brought all of a blob: what a client waits for last."""
    size = min(run.content.size, _LAST_BYTES)
    blob = run.content.blob("last", size, run.turn)
    since = time.time()
    with instance.pusher() as client:
        location = client.send_file("bench/last", blob)
        run.settle()
        with watched(instance.pid) as usage:
            client.finish_file(location, blob)
    instance.forget(since)
    return Figure.of(usage.seconds, usage, size / GIB)


def push_twenty(instance: Instance, run: Run) -> Figure:
    """Push as many blobs at once, a large one's size in all."""
    size = max(1, run.content.size // _CROWD)
    blobs = [run.content.blob(f"crowd-{number}", size, run.turn) for number in range(_CROWD)]

    def push(blob: Blob) -> None:
        with instance.pusher() as client:
            client.push_file("bench/crowd", blob)

    since = time.time()
    run.settle()
    with watched(instance.pid) as usage, ThreadPoolExecutor(_CROWD) as pool:
        for done in [pool.submit(push, blob) for blob in blobs]:
            done.result()
    instance.forget(since)
    total = size * _CROWD
    return Figure.of(total / usage.seconds / 1e6, usage, total / GIB, crowd_mib=usage.peak_mib)


def image(instance: Instance, run: Run) -> Figure:
    """Push an image: layers three at once, each asked for before, then what names them."""
    made = run.content.image("image", run.turn)
    since = time.time()
    run.settle()
    with watched(instance.pid) as usage:
        push_image(instance, "bench/pushed", "latest", made)
    instance.forget(since)
    return Figure.of(made.size / usage.seconds / 1e6, usage, made.size / GIB)


def push_image(instance: Instance, name: str, tag: str, made: Image) -> None:
    """Push an image as clients do, each connection used again."""
    waiting = list(reversed(made.layers))

    def work() -> None:
        with instance.pusher() as client:
            while True:
                try:
                    layer = waiting.pop()
                except IndexError:
                    return
                if not client.has_blob(name, layer):
                    client.push_file(name, layer)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for done in [pool.submit(work) for _ in range(_AT_ONCE)]:
            done.result()
    with instance.pusher() as client:
        client.push(name, made.config)
        client.push_manifest(name, tag, made.manifest)


def pull_one(instance: Instance, run: Run) -> Figure:
    """Pull a blob by one client."""
    return _pull(instance, run, 1)


def pull_four(instance: Instance, run: Run) -> Figure:
    """Pull a blob by four clients at once."""
    return _pull(instance, run, 4)


def _pull(instance: Instance, run: Run, clients: int) -> Figure:
    """Pull what a pull just before has brought into the page cache."""
    blob = run.content.blob("pull", run.content.size)
    if "pull" not in instance.prepared:
        instance.give("bench/pull", "latest", Image(b"{}", [blob]))
        instance.prepared.add("pull")
    url, login = f"{instance.pull_url}/v2/bench/pull/blobs/{blob.digest}", instance.pull_login()
    trust = instance.place.identity.authority
    pull_all([Curl([url], login, trust)], blob.size)
    run.settle()
    with watched(instance.pid) as usage:
        pull_all([Curl([url], login, trust) for _ in range(clients)], blob.size * clients)
    size = blob.size * clients
    return Figure.of(size / usage.seconds / 1e6, usage, size / GIB)
