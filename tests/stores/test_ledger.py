# SPDX-License-Identifier: Apache-2.0
"""A ledger in the object store that the images are in: one of all replicas, whatever ends them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.config import load
from buildset_registry.ledger.opening import kept_rows
from buildset_registry.store import Purpose, open_store

from tests.api.harness import digest_of
from tests.ports import free_port
from tests.stores.fixtures import ObjectStores
from tests.stores.replicas import Replica, Replicas
from tests.unit.store.objects.meddler import error, meddling

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = b"{}"


def minio(stores: ObjectStores) -> dict[str, object]:
    return {"s3": stores.minio.settings(stores.minio.bucket())}


def swift(stores: ObjectStores) -> dict[str, object]:
    return {"swift": stores.swift.settings(stores.swift.container())}


def push(replica: Replica, tag: str) -> str:
    """Push a small image and return its digest."""
    config = digest_of(EMPTY)
    path = "/v2/org/app/blobs/uploads/"
    done = replica.client.post(path, params={"digest": config}, content=EMPTY)
    assert done.status_code == 201, done.text
    described = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2}
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described,
            "layers": [],
            "annotations": {"tag": tag},
        }
    ).encode()
    path = f"/v2/org/app/manifests/{tag}"
    pushed = replica.client.put(path, content=raw, headers={"Content-Type": MANIFEST})
    assert pushed.status_code == 201, pushed.text
    return digest_of(raw)


def pull(replica: Replica, tag: str, agent: str) -> None:
    headers = {"User-Agent": agent, "Accept": MANIFEST}
    got = replica.client.get(f"/v2/org/app/manifests/{tag}", headers=headers)
    assert got.status_code == 200, got.text


def report(replicas: Replicas) -> dict[str, Any]:
    done = replicas.run("report", "--json")
    assert done.returncode == 0, done.stderr
    tree: dict[str, Any] = json.loads(done.stdout)
    return tree


def wait_for_rows(replicas: Replicas, kind: str, number: int) -> None:
    """Wait until the ledger has so many rows of a kind, as a reader beside the servers sees it."""

    async def wait() -> None:
        config = load(replicas.configure(free_port()))
        assert config.ledger is not None
        deadline = time.monotonic() + 60
        async with aclosing(await open_store(config, Purpose.READ)) as store:
            while True:
                rows = (await kept_rows(config.ledger, store)).rows
                if sum(row["kind"] == kind for row in rows) == number:
                    return
                assert time.monotonic() < deadline, rows
                await asyncio.sleep(0.1)

    asyncio.run(wait())


@pytest.mark.parametrize("storage", [minio, swift])
def test_two_replicas_have_one_ledger_that_outlives_both(
    tmp_path: Path,
    object_stores: ObjectStores,
    storage: Callable[[ObjectStores], dict[str, object]],
) -> None:
    """What one was pushed to is pulled from the other; a kill takes nothing that was written."""
    replicas = Replicas(tmp_path, storage(object_stores), ledger={})
    with replicas.one() as first, replicas.one() as second:
        digest = push(first, "1.0")
        pull(second, "1.0", "docker/1")
        pull(first, "1.0", "podman/2")
        wait_for_rows(replicas, "pull", 2)
        for one in (first, second):
            one.kill()
    made = report(replicas)
    (pushed,) = made["pushes"]
    assert (pushed["digest"], pushed["user"], pushed["pulls"]) == (digest, "pusher", 2)
    assert {one["agent"]: one["digest"] for one in made["pulls"]} == {
        "docker/1": digest,
        "podman/2": digest,
    }
    assert all(one["source"].startswith("pushed by pusher") for one in made["pulls"])
    assert made["gaps"] == ["the registry was started 2 times"]


async def test_a_store_that_is_gone_for_a_while_has_all_of_it_afterwards(
    tmp_path: Path, object_stores: ObjectStores
) -> None:
    """What was asked for meanwhile is told, too."""
    settings = object_stores.minio.settings(object_stores.minio.bucket())
    async with meddling(object_stores.minio.url, free_port()) as between:
        settings["regionendpoint"] = between.url
        replicas = Replicas(tmp_path, {"s3": settings}, ledger={})

        def use() -> None:
            with replicas.one() as replica:
                push(replica, "1.0")
                between.rule = lambda _request: error(503, "SlowDown")
                refused = replica.client.get("/v2/org/app/manifests/none")
                assert refused.status_code == 500
                while "the ledger cannot be written" not in replica.log.read_text():
                    time.sleep(0.1)
                between.rule = lambda _request: None
                pull(replica, "1.0", "docker/1")
                wait_for_rows(replicas, "pull", 1)

        await asyncio.to_thread(use)
        made = await asyncio.to_thread(report, replicas)
    assert (len(made["pushes"]), len(made["pulls"])) == (1, 1)
    assert [(one["reference"], one["status"]) for one in made["missing"]] == [("none", 500)]
    assert made["gaps"] == []
