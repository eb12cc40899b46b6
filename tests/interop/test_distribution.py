# SPDX-License-Identifier: Apache-2.0
"""One data directory, served by distribution and by us in turn."""

import os
import time
from pathlib import Path

from tests.interop.content import (
    IMAGE,
    INDEX,
    Pusher,
    check,
    check_blob,
    digest_of,
    push_one_of_each,
)
from tests.interop.registries import Identity, Program, maintain


def test_we_serve_what_distribution_wrote(
    tmp_path: Path, identity: Identity, registry: Program, other: Program
) -> None:
    """Its directory is served as it is, and goes on being its own after we have written to it."""
    storage = tmp_path / "data"
    with other.serving(storage, identity) as client:
        content = push_one_of_each(client).content
    with registry.serving(storage, identity) as client:
        check(client, content)
        pusher = Pusher(client)
        pusher.image("org/app", b"later", "later")
    with other.serving(storage, identity) as client:
        content.tags["org/app"] |= pusher.content.tags["org/app"]
        content.manifests |= pusher.content.manifests
        content.blobs |= pusher.content.blobs
        check(client, content)


def test_distribution_serves_what_we_wrote(
    tmp_path: Path, identity: Identity, registry: Program, other: Program
) -> None:
    """Our directory is one of its own, and so it is after it has written to it."""
    storage = tmp_path / "data"
    with registry.serving(storage, identity) as client:
        content = push_one_of_each(client).content
    with other.serving(storage, identity) as client:
        check(client, content)
        client.delete(f"/v2/org/app/manifests/{content.tags['org/app']['docker']}")
        Pusher(client).image("new/repository", b"new", "new")
    with registry.serving(storage, identity) as client:
        assert "docker" not in client.get("/v2/org/app/tags/list").json()["tags"]
        assert client.get("/v2/new/repository/manifests/new").status_code == 200
        assert "new/repository" in client.get("/v2/_catalog").json()["repositories"]


def test_a_blob_pushed_to_distribution_by_sha512(
    tmp_path: Path, identity: Identity, registry: Program, other: Program
) -> None:
    """It stores the blob under another digest and links to it; we find it by both."""
    storage, content = tmp_path / "data", b"content" * 100
    with other.serving(storage, identity) as client:
        digest = Pusher(client).blob("org/app", content, "sha512")
        check_blob(client, "org/app", digest, content)
    with registry.serving(storage, identity) as client:
        check_blob(client, "org/app", digest, content)
        check_blob(client, "org/app", digest_of(content), content)


def test_a_blob_pushed_to_us_by_sha512(
    tmp_path: Path, identity: Identity, registry: Program, other: Program
) -> None:
    """It is stored under the digest it was pushed by, which distribution looks up the same way."""
    storage, content = tmp_path / "data", b"content" * 100
    with registry.serving(storage, identity) as client:
        pusher = Pusher(client)
        digest = pusher.blob("org/app", content, "sha512")
        pusher.image("org/app", b"image", "latest")
    with other.serving(storage, identity) as client:
        check_blob(client, "org/app", digest, content)
        check(client, pusher.content)


def test_referrers_that_clients_listed_under_a_tag(
    tmp_path: Path, identity: Identity, registry: Program, other: Program
) -> None:
    """Where distribution had no referrers API, clients kept a list; our API answers with it."""
    storage = tmp_path / "data"
    with other.serving(storage, identity) as client:
        pusher = Pusher(client)
        image = pusher.image("org/app", b"image", "latest")
        signature = pusher.artifact("org/app", image)
        listed = {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [pusher.content.descriptor("org/app", signature)],
        }
        pusher.manifest("org/app", listed, image.replace(":", "-"))
    with registry.serving(storage, identity) as client:
        answer = client.get(f"/v2/org/app/referrers/{image}")
        assert [one["digest"] for one in answer.json()["manifests"]] == [signature]


def test_our_collector_leaves_what_distribution_needs(
    tmp_path: Path, identity: Identity, registry: Program, other: Program
) -> None:
    """Of a directory that it wrote, blobs that no manifest mentions go, and nothing else."""
    storage, long = tmp_path / "data", b"long digest" * 100
    with other.serving(storage, identity) as client:
        pusher = push_one_of_each(client)
        layer = {"mediaType": "text/plain", "digest": pusher.blob("org/app", long, "sha512")}
        config = {"mediaType": "text/plain", "digest": pusher.blob("org/app", b"{}"), "size": 2}
        tree = {"schemaVersion": 2, "mediaType": IMAGE, "config": config}
        pusher.manifest("org/app", tree | {"layers": [layer | {"size": len(long)}]}, "long")
        stray = pusher.blob("org/app", b"stray")
    for path in storage.rglob("*"):
        os.utime(path, (0, 0))
    time.sleep(2.2)  # what has just changed is spared
    assert maintain("verify", storage, identity)["problems"] == []
    report = maintain("gc", storage, identity)
    # Nothing refers to the layer that is only mounted, either, but the image that it is from.
    assert (report["removed"], report["blobs"], report["freed_bytes"]) == ([], 1, 5)
    assert maintain("verify", storage, identity)["problems"] == []
    del pusher.content.blobs["org/app", stray]
    for program in (other, registry):
        with program.serving(storage, identity) as client:
            check(client, pusher.content)
            assert client.get(f"/v2/org/app/blobs/{stray}").status_code == 404


def test_distribution_serves_a_manifest_that_we_took_by_sha512(
    tmp_path: Path, identity: Identity, registry: Program, other: Program
) -> None:
    """It is found by the digest that it was pushed by, and by its tag."""
    storage = tmp_path / "data"
    with registry.serving(storage, identity) as client:
        pusher = Pusher(client)
        image = pusher.image("org/app", b"image", "latest")
        raw = pusher.content.manifests["org/app", image][0]
        digest = digest_of(raw, "sha512")
        answer = client.put(
            f"/v2/org/app/manifests/{digest}", content=raw, headers={"Content-Type": IMAGE}
        )
        assert answer.status_code == 201
    with other.serving(storage, identity) as client:
        found = client.get(f"/v2/org/app/manifests/{digest}", headers={"Accept": IMAGE})
        assert found.content == raw, found.text
