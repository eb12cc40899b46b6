# SPDX-License-Identifier: Apache-2.0
"""Buckets as they are after years: a collection of many objects, and a blob past S3's limits."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.stores.fixtures import ObjectStores
from tests.stores.fixtures import object_stores as object_stores
from tests.stores.replicas import Replica, Replicas
from tests.stores.servers import S3Server

_LAYOUT = "docker/registry/v2"
_NAMES = 10
#: S3 copies no more than 5 GB whole, and takes no larger part ("Multipart upload limits").
_PAST_THE_LIMIT = 5 * 1024**3 + 1
_BLOCK = 1 << 20


def digest_of(content: bytes) -> str:
    """Return the hexadecimal digits of a digest."""
    return hashlib.sha256(content).hexdigest()


def put(top: Path, key: str, content: bytes) -> None:
    """Make an object that is long there, as a file of the gateway's folder."""
    path = top / _LAYOUT / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (0, 0))


def fill(top: Path, tags: int) -> int:
    """Make images of one layer each with a tag, five objects each; and half as many loose blobs."""
    kind = "application/vnd.oci.image"
    made = 0
    for number in range(tags):
        repository = f"repositories/org/app{number % _NAMES}"
        layer = b"layer %d" % number
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{kind}.manifest.v1+json",
                "config": {
                    "mediaType": f"{kind}.config.v1+json",
                    "digest": f"sha256:{digest_of(layer)}",
                    "size": len(layer),
                },
                "layers": [],
            }
        ).encode()
        revision = digest_of(manifest)
        link, tag = f"sha256:{revision}".encode(), f"{repository}/_manifests/tags/v{number}"
        loose = [b"loose %d" % number] if number % 2 else []
        for blob in (layer, manifest, *loose):
            put(top, f"blobs/sha256/{digest_of(blob)[:2]}/{digest_of(blob)}/data", blob)
        put(top, f"{repository}/_manifests/revisions/sha256/{revision}/link", link)
        put(top, f"{tag}/current/link", link)
        put(top, f"{tag}/index/sha256/{revision}/link", link)
        made += 5 + len(loose)
    return made


@dataclass
class Asking:
    """A client that asks for a tag all the time, and the seconds that each answer took."""

    replica: Replica
    seconds: list[float] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client(base_url=self.replica.client.base_url, timeout=60) as client:
            while not self._ended.is_set():
                began = time.monotonic()
                answer = client.get("/v2/org/app1/manifests/v1")
                assert answer.status_code == 200, answer.text
                self.seconds.append(time.monotonic() - began)
                self._ended.wait(0.05)

    def end(self) -> None:
        self._ended.set()


@dataclass(frozen=True)
class Collected:
    """One collection of many objects."""

    objects: int
    seconds: float
    peak_mib: float
    slowest: float


def collect(server: S3Server, folder: Path, tags: int) -> Collected:
    """Fill a bucket and collect in it, while it is served."""
    bucket = server.bucket()
    objects = fill(server.folder / bucket, tags)
    replicas = Replicas(folder, {"s3": server.settings(bucket)}, gc={"grace": 60})
    with replicas.one() as replica:
        asking = Asking(replica)
        thread = threading.Thread(target=asking.run)
        thread.start()
        began = time.monotonic()
        try:
            done = replicas.run("gc", "--json", timeout=3 * 3600)
        finally:
            asking.end()
            thread.join()
        seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["blobs"] == tags // 2, done.stderr
    # The largest of all processes that ended so far: a larger bucket is asked for last.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Collected(objects, seconds, peak, max(asking.seconds))


def told(one: Collected) -> str:
    return (
        f"{one.objects} objects: {one.seconds:.0f} s, {one.peak_mib:.0f} MiB at most; an answer "
        f"meanwhile took {one.slowest:.2f} s at most"
    )


@pytest.mark.timeout(4 * 3600)
def test_a_collection_grows_as_its_bucket_does(object_stores: ObjectStores, tmp_path: Path) -> None:
    """A hundred thousand tags and half a million objects beside a tenth of them."""
    many = int(os.environ.get("SOAK_TAGS", "100000"))
    server, found = object_stores.versitygw, []
    for tags in (many // 10, many):
        folder = tmp_path / str(tags)
        folder.mkdir()
        found.append(collect(server, folder, tags))
        print(told(found[-1]))
    small, large = found
    assert large.seconds < 20 * small.seconds
    assert large.peak_mib < 1024


def repeated(size: int, block: bytes) -> Iterator[bytes]:
    """Yield a block again and again, so many bytes in all."""
    for start in range(0, size, len(block)):
        yield block[: min(len(block), size - start)]


@pytest.mark.timeout(3600)
def test_a_blob_past_the_limits_of_one_copy_is_pushed_and_pulled(
    object_stores: ObjectStores, tmp_path: Path
) -> None:
    """By PATCH, so that its digest is not known before: the bucket has to copy it in parts."""
    server, block = object_stores.minio, os.urandom(_BLOCK)
    running = hashlib.sha256()
    for piece in repeated(_PAST_THE_LIMIT, block):
        running.update(piece)
    digest = f"sha256:{running.hexdigest()}"
    storage = {"s3": server.settings(server.bucket()), "redirect": {"disable": True}}
    with Replicas(tmp_path, storage).one() as replica:
        client = replica.client
        began = client.post("/v2/org/app/blobs/uploads/")
        sent = client.patch(began.headers["location"], content=repeated(_PAST_THE_LIMIT, block))
        assert sent.status_code == 202, sent.text
        pushed = time.monotonic()
        done = client.put(sent.headers["location"], params={"digest": digest}, timeout=1800)
        assert done.status_code == 201, done.text
        print(f"the last PUT took {time.monotonic() - pushed:.0f} s")
        pulled = hashlib.sha256()
        with client.stream("GET", f"/v2/org/app/blobs/{digest}") as answer:
            for piece in answer.iter_bytes(_BLOCK):
                pulled.update(piece)
    assert f"sha256:{pulled.hexdigest()}" == digest
