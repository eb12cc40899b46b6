# SPDX-License-Identifier: Apache-2.0
"""Small requests on 16 connections: how many a second."""

from __future__ import annotations

import json
import uuid

from bench.client import MANIFEST_TYPE
from bench.content import Image
from bench.figures import THOUSAND, Figure
from bench.instances import Instance
from bench.load import Rate, ab_head, wrk
from bench.processes import Usage, watched
from bench.run import Run

_NAME = "bench/small"
_LAYER = 4096


def manifest_get(instance: Instance, run: Run) -> Figure:
    """Get a manifest by its tag."""
    _prepare(instance, run)
    url, login = f"{instance.pull_url}/v2/{_NAME}/manifests/latest", instance.pull_login()
    with watched(instance.pid) as usage:
        rate = wrk(url, [*login, f"Accept: {MANIFEST_TYPE}"], run.seconds * instance.peer.slow)
    return _figure(rate, usage)


def blob_head(instance: Instance, run: Run) -> Figure:
    """Ask whether a blob is there."""
    layer = _prepare(instance, run).layers[0]
    url, login = f"{instance.pull_url}/v2/{_NAME}/blobs/{layer.digest}", instance.pull_login()
    with watched(instance.pid) as usage:
        rate = ab_head(url, login, run.seconds * instance.peer.slow)
    return _figure(rate, usage)


def manifest_put(instance: Instance, run: Run) -> Figure:
    """Put ever new manifests, each under a tag of its own."""
    known = _prepare(instance, run)
    login = instance.push_login()
    raw = json.loads(known.manifest) | {"annotations": {"number": "NOTE"}}
    path, word = "/v2/bench/small/manifests/", f"r{run.turn}-"
    with watched(instance.pid) as usage:
        arguments = [path, json.dumps(raw), word]
        rate = wrk(
            instance.push_url, login, run.seconds, script="manifests.lua", arguments=arguments
        )
    return _figure(rate, usage)


def small_blob(instance: Instance, run: Run) -> Figure:
    """Push ever new blobs of 4 KiB."""
    login = instance.push_login()
    with watched(instance.pid) as usage:
        arguments = ["/v2/bench/blobs/blobs/uploads/", uuid.uuid4().hex]
        rate = wrk(instance.push_url, login, run.seconds, script="blobs.lua", arguments=arguments)
    return _figure(rate, usage)


def _prepare(instance: Instance, run: Run) -> Image:
    known = Image(b"{}", [run.content.blob("small", _LAYER)])
    if "small" not in instance.prepared:
        instance.give(_NAME, "latest", known)
        instance.prepared.add("small")
    return known


def _figure(rate: Rate, usage: Usage) -> Figure:
    return Figure.of(rate.a_second, usage, rate.requests / THOUSAND)
