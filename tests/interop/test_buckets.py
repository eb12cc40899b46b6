# SPDX-License-Identifier: Apache-2.0
"""One bucket, served by distribution and by us in turn."""

import os

import pytest

from tests.interop.content import IMAGE, Pusher, check, check_blob, digest_of, push_one_of_each
from tests.interop.registries import Identity, Program, Storage, maintain
from tests.stores.fixtures import ObjectStores
from tests.stores.servers import S3Server

#: More than one part of an upload: theirs, and ours.
LARGE = os.urandom(1024 * 1024) * 17 + b"end"


@pytest.fixture
def storage(object_stores: ObjectStores) -> Storage:
    """A bucket of MinIO, below a root directory as distribution's users write it."""
    server = object_stores.minio
    # Version 3 wants to be told how the bucket is named.
    more = {"rootdirectory": "/registry", "forcepathstyle": True}
    return {"s3": server.settings(server.bucket(), **more)}


def test_we_serve_a_bucket_that_distribution_wrote(
    storage: Storage, identity: Identity, registry: Program, other: Program
) -> None:
    """It is served as it is, and goes on being its own after we have written to it."""
    with other.serving(storage, identity) as client:
        pusher = push_one_of_each(client)
        pusher.blob("org/app", LARGE)
        content = pusher.content
    with registry.serving(storage, identity) as client:
        check(client, content)
        pusher = Pusher(client)
        pusher.image("org/app", b"later", "later")
    with other.serving(storage, identity) as client:
        content.tags["org/app"] |= pusher.content.tags["org/app"]
        content.manifests |= pusher.content.manifests
        content.blobs |= pusher.content.blobs
        check(client, content)


def test_distribution_serves_a_bucket_that_we_wrote(
    storage: Storage, identity: Identity, registry: Program, other: Program
) -> None:
    """Our bucket is one of its own, and so it is after it has written to it."""
    with registry.serving(storage, identity) as client:
        pusher = push_one_of_each(client)
        pusher.blob("org/app", LARGE)
        content = pusher.content
    with other.serving(storage, identity) as client:
        check(client, content)
        # Not "docker": distribution 2.8 stops at "docker-multi" where it removes that tag.
        deleted = client.delete(f"/v2/org/app/manifests/{content.tags['org/app']['typeless']}")
        assert deleted.status_code == 202, deleted.text
        Pusher(client).image("new/repository", b"new", "new")
    with registry.serving(storage, identity) as client:
        assert "typeless" not in client.get("/v2/org/app/tags/list").json()["tags"]
        assert client.get("/v2/new/repository/manifests/new").status_code == 200
        assert "new/repository" in client.get("/v2/_catalog").json()["repositories"]


def test_a_blob_pushed_to_distribution_by_sha512_is_in_its_bucket(
    storage: Storage, identity: Identity, registry: Program, other: Program
) -> None:
    """It stores the blob under another digest and links to it; we find it by both."""
    content = b"content" * 100
    with other.serving(storage, identity) as client:
        digest = Pusher(client).blob("org/app", content, "sha512")
    with registry.serving(storage, identity) as client:
        check_blob(client, "org/app", digest, content)
        check_blob(client, "org/app", digest_of(content), content)


def make_old(server: S3Server, bucket: str) -> None:
    """Let everything in a bucket be long there; its server takes the times of files."""
    for path in [*(server.folder / bucket).rglob("*"), server.folder / bucket]:
        os.utime(path, (0, 0))


def test_our_collector_leaves_what_distribution_needs_in_a_bucket(
    object_stores: ObjectStores, identity: Identity, registry: Program, other: Program
) -> None:
    """Of a bucket that it wrote, blobs that no manifest mentions go, and nothing else."""
    server = object_stores.versitygw
    bucket = server.bucket()
    storage = {"s3": server.settings(bucket, forcepathstyle=True)}
    long = b"long digest" * 100
    with other.serving(storage, identity) as client:
        pusher = push_one_of_each(client)
        layer = {"mediaType": "text/plain", "digest": pusher.blob("org/app", long, "sha512")}
        config = {"mediaType": "text/plain", "digest": pusher.blob("org/app", b"{}"), "size": 2}
        tree = {"schemaVersion": 2, "mediaType": IMAGE, "config": config}
        pusher.manifest("org/app", tree | {"layers": [layer | {"size": len(long)}]}, "long")
        stray = pusher.blob("org/app", b"stray")
    make_old(server, bucket)
    assert maintain("verify", storage, identity)["problems"] == []
    report = maintain("gc", storage, identity)
    assert (report["removed"], report["blobs"], report["freed_bytes"]) == ([], 1, 5)
    assert maintain("verify", storage, identity)["problems"] == []
    del pusher.content.blobs["org/app", stray]
    for program in (other, registry):
        with program.serving(storage, identity) as client:
            check(client, pusher.content)
            assert client.get(f"/v2/org/app/blobs/{stray}").status_code == 404
