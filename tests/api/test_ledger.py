# SPDX-License-Identifier: Apache-2.0
"""The ledger as clients' requests make it: one row for each image that one of them got."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from buildset_registry.ledger.files import read_ledger
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST

from tests.api.configurations import once, only
from tests.api.harness import USER, Harness, Registry, digest_of
from tests.unit.upstream.lab import Server

Row = dict[str, Any]
HIDDEN = "hunter2"


def start(harness: Harness, **settings: Any) -> tuple[Registry, Path]:
    """Start a registry that keeps a ledger."""
    return harness.start(ledger={"folder": "ledger"}, **settings), harness.folder / "ledger"


def rows_of(folder: Path, kind: str, until: Callable[[list[Row]], bool]) -> list[Row]:
    """Return the rows of a kind once they are what the test waits for."""
    deadline = time.monotonic() + 60
    while True:
        found = [row for row in read_ledger(folder).rows if row["kind"] == kind]
        if until(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def index_of(registry: Registry, name: str, tag: str) -> tuple[str, list[str]]:
    """Push an index of two platforms and return its digest and theirs."""
    images = [registry.image(name, seed) for seed in (b"amd", b"arm")]
    for raw in images:
        registry.put_manifest(name, digest_of(raw), raw)
    platforms = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": digest_of(raw),
            "size": len(raw),
            "platform": {"os": "linux", "architecture": architecture},
        }
        for raw, architecture in zip(images, ("amd64", "arm64"), strict=True)
    ]
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": platforms}).encode()
    assert registry.put_manifest(name, tag, raw, OCI_INDEX).status_code == 201
    return digest_of(raw), [digest_of(one) for one in images]


def pull(
    client: httpx.Client, name: str, tag: str, agent: str, platform: str | None = None
) -> None:
    """Pull as docker does: the tag by HEAD, then everything by digest."""
    headers = {"User-Agent": agent}
    base = f"/v2/{name}"
    head = client.head(f"{base}/manifests/{tag}", headers=headers)
    assert head.status_code == 200
    manifest = client.get(
        f"{base}/manifests/{head.headers['docker-content-digest']}", headers=headers
    )
    if platform is not None:
        manifest = client.get(f"{base}/manifests/{platform}", headers=headers)
    tree = manifest.json()
    for blob in (tree["config"], *tree["layers"]):
        assert client.get(f"{base}/blobs/{blob['digest']}", headers=headers).status_code == 200


def test_a_head_and_the_gets_by_digest_are_one_row(harness: Harness) -> None:
    """With the index, the platform's manifest, who pushed it, and the bytes of the layers."""
    registry, folder = start(harness)
    index, (amd, _arm) = index_of(registry, "quay.io/org/app", "1.0")
    pull(registry.pull, "quay.io/org/app", "1.0", "docker/20.10", amd)
    (row,) = rows_of(folder, "pull", lambda rows: bool(rows) and rows[0]["blobs"] == 2)
    assert (row["name"], row["reference"], row["digest"]) == ("quay.io/org/app", "1.0", index)
    assert row["manifests"] == [{"digest": amd, "platform": "linux/amd64"}]
    assert (row["client"], row["agent"]) == ("127.0.0.1", "docker/20.10")
    assert row["read"] is True and row["source"] == {"kind": "pushed"}
    assert row["bytes"]["store"] > 0 == row["bytes"]["upstream"]
    pushed = rows_of(folder, "push", lambda rows: len(rows) == 3)
    assert (pushed[2]["references"], pushed[2]["user"]) == (["1.0"], USER)


@only(once, why="it is the same code for all")
def test_each_pull_and_each_client_has_its_row(harness: Harness) -> None:
    """The same image twice by one client and once by another is three rows."""
    registry, folder = start(harness)
    digest = registry.push_image("app", "1.0")
    for agent in ("one", "one", "two"):
        pull(registry.pull, "app", "1.0", agent)
        rows_of(folder, "pull", lambda rows: bool(rows) and rows[-1]["blobs"] == 2)
    rows = rows_of(folder, "pull", lambda rows: len(rows) == 3)
    assert [row["agent"] for row in rows] == ["one", "one", "two"]
    assert {row["digest"] for row in rows} == {digest}


@only(once, why="it is the same code for all")
def test_what_is_not_there_is_kept_and_what_is_refused_is_not(harness: Harness) -> None:
    """A tag that nobody has is a row; a wrong password is none."""
    registry, folder = start(harness)
    for _again in range(3):
        assert registry.pull.get("/v2/app/manifests/none").status_code == 404
    wrong = registry.pull.get("/v2/app/manifests/none", auth=(USER, HIDDEN))
    assert wrong.status_code == 401
    (row,) = rows_of(folder, "missing", lambda rows: bool(rows) and rows[0]["requests"] >= 3)
    assert (row["name"], row["reference"], row["status"]) == ("app", "none", 404)


@only(once, why="the folder is the same for all")
def test_no_credentials_and_no_query_are_written(harness: Harness) -> None:
    """Neither the password, nor what stands in a URL's query but the registry's name."""
    registry, folder = start(harness)
    registry.push_image("app", "1.0")
    registry.pull.get(f"/v2/app/manifests/1.0?ns=docker.io&token={HIDDEN}", auth=(USER, "x"))
    registry.push.get(f"/v2/app/manifests/1.0?ns=docker.io&token={HIDDEN}")
    rows_of(folder, "pull", bool)
    written = "".join(path.read_text() for path in folder.iterdir())
    assert HIDDEN not in written and "Basic" not in written and "correct horse" not in written
    assert "ns=docker.io" in written
    assert folder.stat().st_mode & 0o077 == 0


@only(once, why="what upstream sends is the same everywhere")
def test_an_image_of_an_upstream_names_it_and_its_bytes(harness: Harness, quay: Server) -> None:
    """The first pull has its bytes from upstream, the second one from the store."""
    upstream = {"name": "quay.io", "url": quay.url, "ca": "ca.pem"}
    harness.authority.cert_pem.write_to_path(harness.folder / "ca.pem")
    registry, folder = start(harness, upstreams=[upstream])
    for agent in ("first", "second"):
        tag = registry.pull.get("/v2/quay.io/org/app/manifests/v1", headers={"User-Agent": agent})
        assert tag.status_code == 200
    first, second = rows_of(folder, "pull", lambda rows: len(rows) == 2)
    assert first["source"]["kind"] == second["source"]["kind"] == "upstream"
    assert first["source"]["registry"] == "quay.io"
    (numbers,) = rows_of(folder, "upstream", bool)
    assert numbers["registry"] == "quay.io" and numbers["requests"]["GET 200"] == 1


@only(once, why="the folder is the same for all")
def test_a_ledger_that_cannot_be_written_stops_no_pull(harness: Harness) -> None:
    """What cannot be written is said in the log."""
    (harness.folder / "ledger").write_text("a file where the folder is to be")
    registry, _folder = start(harness)
    registry.push_image("app", "1.0")
    pull(registry.pull, "app", "1.0", "docker")
    registry.wait_for_log("the ledger cannot be written")
