# SPDX-License-Identifier: Apache-2.0
"""A buildset as CI sees it: three jobs push images at once, then thirty nodes pull them at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from bench.content import Image
from bench.figures import GIB, Figure
from bench.instances import Instance
from bench.load import Curl, pull_all
from bench.processes import watched
from bench.run import Run
from bench.transfers import push_image

_NODES = 30


def buildset(instance: Instance, run: Run) -> Figure:
    """Seconds for both; each node pulls one of the images."""
    images = run.content.buildset(run.turn)
    names = [f"buildset/image{number}" for number in range(len(images))]
    login = instance.pull_login()
    since = time.time()
    run.settle()
    with watched(instance.pid) as usage:
        with ThreadPoolExecutor(len(images)) as pool:
            pushes = [
                pool.submit(push_image, instance, name, f"change-{run.turn}", image)
                for name, image in zip(names, images, strict=True)
            ]
            for push in pushes:
                push.result()
        pushed = time.perf_counter()
        chosen = [number % len(images) for number in range(_NODES)]
        urls = [_urls(instance, names[number], run.turn, images[number]) for number in chosen]
        trust = instance.place.identity.authority
        nodes = [Curl(each, login, trust) for each in urls]
        size = sum(images[number].size + len(images[number].manifest) for number in chosen)
        pull_all(nodes, size)
        pulling = time.perf_counter() - pushed
    instance.forget(since)
    moved = size + sum(image.size for image in images)
    return Figure.of(usage.seconds, usage, moved / GIB, pulling_seconds=pulling)


def _urls(instance: Instance, name: str, turn: int, image: Image) -> list[str]:
    base = f"{instance.pull_url}/v2/{name}"
    return [
        f"{base}/manifests/change-{turn}",
        *(f"{base}/blobs/{layer.digest}" for layer in image.layers),
    ]
