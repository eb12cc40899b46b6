# SPDX-License-Identifier: Apache-2.0
"""The steps of docs/how-to/look-after.rst and gone-wrong.rst that need a bucket."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import httpx
import pytest

from tests.documented import DOCS, Operator, steps
from tests.stores.fixtures import ObjectStores
from tests.stores.replicas import PASSWORD, USER, Replica, Replicas
from tests.stores.test_replicas import digest_of

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def push(replica: Replica, repository: str, tag: str, content: bytes) -> str:
    """Push an image of one layer, and return its digest."""
    for blob in (b"{}", content):
        digest = {"digest": digest_of(blob)}
        path = f"/v2/{repository}/blobs/uploads/"
        assert replica.client.post(path, params=digest, content=blob).status_code == 201
    parts = [
        {"mediaType": "application/octet-stream", "digest": digest_of(blob), "size": len(blob)}
        for blob in (b"{}", content)
    ]
    tree = {"schemaVersion": 2, "mediaType": MANIFEST, "config": parts[0], "layers": parts[1:]}
    raw = json.dumps(tree).encode()
    put = replica.client.put(
        f"/v2/{repository}/manifests/{tag}", content=raw, headers={"Content-Type": MANIFEST}
    )
    assert put.status_code == 201, put.text
    return digest_of(raw)


def digest(replica: Replica, repository: str, tag: str) -> str | None:
    """Tell the digest of an image."""
    answer = replica.client.head(f"/v2/{repository}/manifests/{tag}", headers={"Accept": MANIFEST})
    found: str | None = answer.headers.get("docker-content-digest")
    return found


def wait_for(client: httpx.Client, path: str, status: int) -> None:
    """Wait until a path is answered so."""
    deadline = time.monotonic() + 60
    while client.get(path).status_code != status:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of two registries."""
    made = (tmp_path / "old", tmp_path / "new")
    for folder in made:
        folder.mkdir()
    return made


def test_all_images_move_from_a_disk_to_a_bucket_while_it_serves(
    tmp_path: Path, folders: tuple[Path, Path], object_stores: ObjectStores
) -> None:
    """More than a page of tags, and what is pushed meanwhile; at the end nothing is sent again."""
    minio = object_stores.minio
    (tmp_path / "empty").touch()
    old_disk = Replicas(folders[0], "data")
    new_bucket = Replicas(folders[1], {"s3": minio.settings(minio.bucket())})
    with old_disk.one() as old, new_bucket.one() as new:
        pushed = {("org/app", f"v{n}"): push(old, "org/app", f"v{n}", b"app") for n in range(3)}
        pushed["other", "latest"] = push(old, "other", "latest", b"other")
        first, second = steps("look-after", "Move to another store while it serves")
        urls = {
            "https://registry.example.com:5001": str(old.client.base_url).rstrip("/"),
            "https://registry.example.com:6001": str(new.client.base_url).rstrip("/"),
            "sh copy-all.sh": f"sh {DOCS}/examples/move-store/copy-all.sh",
            "?n=500": "?n=2",
        }
        operator = Operator(tmp_path / "operator", tmp_path / "none", urls)
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        hosts = {one.client.base_url.netloc.decode(): {"auth": pair} for one in (old, new)}
        (operator.folder / "auth.json").write_text(json.dumps({"auths": hosts}))
        assert f"{digest_of(b'x')[:7]}" in operator.type(f"{first} --authfile auth.json")
        pushed["late", "v1"] = push(old, "late", "v1", b"late")
        said = operator.type(f"{second} --authfile auth.json")
        assert sum(": 0 bytes sent" in line for line in said.splitlines()) == 4
        assert {name: digest(new, *name) for name in pushed} == pushed
    done = new_bucket.run("verify")
    assert (done.returncode, "nothing broken" in done.stdout) == (0, True)


def test_a_bucket_that_comes_back_is_served_without_a_restart(
    tmp_path: Path, folders: tuple[Path, Path], object_stores: ObjectStores
) -> None:
    """While it is gone everything says so, and nothing ends."""
    minio = object_stores.minio
    name = minio.bucket()
    replicas = Replicas(folders[0], {"s3": minio.settings(name)})
    with replicas.one() as replica:
        pushed = push(replica, "org/app", "v1", b"app")
        place = minio.folder / name
        aside = minio.folder.parent / f"{name}-aside"
        place.rename(aside)
        wait_for(replica.client, "/readyz", 503)
        assert replica.client.get("/v2/org/app/manifests/v1").status_code == 500
        (status,) = steps("gone-wrong", "The bucket is gone")
        config = {"/var/lib/buildset-registry/config.yaml": str(replicas.configure(1))}
        operator = Operator(tmp_path / "operator", tmp_path / "none", config)
        said = operator.type(status, code=3)
        assert "Needs a look:\n  storage: " in said
        assert minio.secret_key not in said
        aside.rename(place)
        wait_for(replica.client, "/readyz", 200)
        assert digest(replica, "org/app", "v1") == pushed
        push(replica, "org/app", "v2", b"more")
        assert replica.process.poll() is None
