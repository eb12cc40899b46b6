# SPDX-License-Identifier: Apache-2.0
"""Pages of lists: 1,000 tags out of many, and a page of the catalog."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

from bench.client import Refused
from bench.content import manifest
from bench.figures import THOUSAND, Figure
from bench.instances import Instance
from bench.load import wrk
from bench.processes import watched
from bench.run import Run

_CONNECTIONS = 4
#: How long a registry may take to be filled; what it holds then is what it lists.
_FILLING_SECONDS = 100


def tags(instance: Instance, run: Run) -> Figure:
    """Get the first page of a repository's tags."""
    if "tags" not in instance.prepared:
        places = [("bench/tags", f"tag-{number:06d}") for number in range(run.tags)]
        _fill(instance, places)
        instance.prepared.add("tags")
    # zuul-registry takes no query, and distribution 2.8 heeds none.
    query = "" if instance.peer.name == "zuul-registry" else f"?n={run.page}"
    return _page(instance, run, f"/v2/bench/tags/tags/list{query}", "tags")


def catalog(instance: Instance, run: Run) -> Figure:
    """Get the first page of the list of repositories."""
    if "catalog" not in instance.prepared:
        numbers = range(run.repositories)
        _fill(instance, [(f"many/repository-{number:05d}", "latest") for number in numbers])
        instance.prepared.add("catalog")
    return _page(instance, run, f"/v2/_catalog?n={run.page}", "repositories")


def _fill(instance: Instance, places: list[tuple[str, str]]) -> None:
    """Push an image without layers under each name and tag."""
    raw = manifest(b"{}", [])
    deadline = time.monotonic() + _FILLING_SECONDS

    def work(part: list[tuple[str, str]]) -> None:
        known = set()
        with instance.pusher() as client:
            for name, tag in part:
                if time.monotonic() > deadline:
                    return
                if name not in known:
                    client.push(name, b"{}")
                    known.add(name)
                client.push_manifest(name, tag, raw)

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        for done in [pool.submit(work, places[at::_CONNECTIONS]) for at in range(_CONNECTIONS)]:
            done.result()


def _page(instance: Instance, run: Run, path: str, key: str) -> Figure:
    login = instance.pull_login()
    with instance.puller() as client:
        answer = client.expect(200, "GET", path)
    entries = len(json.loads(answer.content)[key])
    if not entries:
        raise Refused(f"{path} lists nothing")
    with watched(instance.pid) as usage:
        rate = wrk(instance.pull_url + path, login, run.seconds, connections=_CONNECTIONS)
    return Figure.of(rate.a_second, usage, rate.requests / THOUSAND, entries=entries)
