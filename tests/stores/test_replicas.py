# SPDX-License-Identifier: Apache-2.0
"""Several registries on one bucket: whatever one of them began, another one goes on with."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.stores import storm
from tests.stores.buckets import Bucket
from tests.stores.fixtures import ObjectStores
from tests.stores.replicas import Replica, Replicas
from tests.waiting import wait_until

#: Several parts, and a rest.
LARGE = os.urandom(1024 * 1024) * 19 + b"end"
UPLOADS = "/v2/org/app/blobs/uploads/"


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def path_of(answer: httpx.Response) -> str:
    """Return the path of an upload, which is the same at every replica."""
    return str(answer.headers["location"])


@pytest.fixture
def bucket(object_stores: ObjectStores) -> Bucket:
    return Bucket(object_stores.minio)


@pytest.fixture
def replicas(tmp_path: Path, bucket: Bucket) -> Replicas:
    return Replicas(tmp_path, {"s3": bucket.server.settings(bucket.name)})


@pytest.fixture
def two(replicas: Replicas) -> Iterator[tuple[Replica, Replica]]:
    """Two registries that run at once."""
    with ExitStack() as stack:
        yield stack.enter_context(replicas.one()), stack.enter_context(replicas.one())


def pull(replica: Replica, digest: str) -> bytes:
    """Pull a blob, wherever the registry sends one for it."""
    answer = replica.client.get(f"/v2/org/app/blobs/{digest}", follow_redirects=True)
    assert answer.status_code == 200, answer.text
    return answer.content


def test_an_upload_goes_on_at_another_replica_after_a_kill(
    replicas: Replicas, bucket: Bucket
) -> None:
    """Each request at a replica of its own, of which each is killed after it."""
    cuts = [0, 100, 100 + 9 * 1024 * 1024, len(LARGE) - 10, len(LARGE)]
    with replicas.one() as first:
        location = path_of(first.client.post(UPLOADS))
        first.kill()
    for start, end in itertools.pairwise(cuts[:-1]):
        with replicas.one() as replica:
            at = replica.client.get(location)
            assert at.headers["range"] == f"0-{max(0, start - 1)}", start
            appended = replica.client.patch(location, content=LARGE[start:end])
            assert appended.status_code == 202, appended.text
            location = path_of(appended)
            replica.kill()
    digest = digest_of(LARGE)
    with replicas.one() as last:
        done = last.client.put(location, params={"digest": digest}, content=LARGE[cuts[-2] :])
        assert done.status_code == 201, done.text
        assert pull(last, digest) == LARGE
    assert bucket.leftovers() == []


def test_a_blob_of_any_size_leaves_nothing_but_itself(
    two: tuple[Replica, Replica], bucket: Bucket
) -> None:
    """It is there at the other replica at once; a wrong digest leaves nothing at all."""
    sizes = (0, 1, 8 * 1024 * 1024, len(LARGE))
    for size, whole, algorithm in itertools.product(sizes, (True, False), ("sha256", "sha512")):
        # One of its own each time: what is there already would tell nothing.
        content = f"{whole} {algorithm}".encode().ljust(32)[:size] + LARGE[32:size]
        digest, before = digest_of(content, algorithm), len(bucket.blobs())
        for told, status in ((digest_of(b"other", algorithm), 400), (digest, 201)):
            location, rest = path_of(two[0].client.post(UPLOADS)), content
            if not whole:
                location = path_of(two[0].client.patch(location, content=content))
                rest = b""
            done = two[0].client.put(location, params={"digest": told}, content=rest)
            assert done.status_code == status, done.text
            if status == 201:  # wherever it is by then
                assert pull(two[1], digest) == content
                wait_until(lambda: not bucket.leftovers(), f"{size} {whole} {algorithm}: moved")
            assert bucket.leftovers() == [], (size, whole, algorithm, status)
            assert len(bucket.blobs()) <= before + (status == 201)
        assert pull(two[1], digest) == content
        assert any(digest.partition(":")[2] in key for key in bucket.blobs())


@pytest.mark.parametrize("last", [b"", b"end"], ids=["empty", "with the rest"])
def test_the_last_request_may_come_again_at_another_replica(
    two: tuple[Replica, Replica], last: bytes
) -> None:
    """The first one was killed with its answer, and a proxy asks the next one."""
    content, (first, second) = os.urandom(100) + last, two
    digest = digest_of(content)
    location = path_of(first.client.post(UPLOADS))
    location = path_of(first.client.patch(location, content=content[:100]))
    for replica in (first, second, first):
        answer = replica.client.put(location, params={"digest": digest}, content=last)
        assert answer.status_code == 201, answer.text
        assert pull(replica, digest) == content
    for wrong in (digest_of(b"other"), ""):
        answer = second.client.put(location, params={"digest": wrong}, content=last)
        assert answer.status_code in {400, 404}, answer.text


@pytest.mark.parametrize("size", [3, 9 * 1024 * 1024], ids=["small", "in parts"])
def test_the_last_request_that_tells_its_place_may_come_again_at_another_replica(
    two: tuple[Replica, Replica], size: int
) -> None:
    """To that one, nothing or all has arrived of what is said to be here in part."""
    content, (first, second) = os.urandom(100 + size), two
    location = path_of(first.client.post(UPLOADS))
    location = path_of(first.client.patch(location, content=content[:100]))
    last = {"Content-Range": f"100-{len(content) - 1}"}
    for replica in (first, second, first, second):
        params = {"digest": digest_of(content)}
        answer = replica.client.put(location, params=params, content=content[100:], headers=last)
        assert answer.status_code == 201, answer.text
        assert pull(replica, digest_of(content)) == content
    other = {"digest": digest_of(b"other")}
    answer = second.client.put(location, params=other, content=content[100:], headers=last)
    assert answer.status_code in {404, 416}, answer.text


def test_of_two_requests_to_one_session_one_is_refused(two: tuple[Replica, Replica]) -> None:
    """Each at a replica of its own, at the same time: what the other one brought is the blob."""
    contents = [bytes([number]) * (9 * 1024 * 1024) for number in (1, 2)]
    location = path_of(two[0].client.post(UPLOADS))
    with ThreadPoolExecutor(2) as pool:
        sent = [
            pool.submit(replica.client.patch, location, content=content)
            for replica, content in zip(two, contents, strict=True)
        ]
        statuses = [one.result().status_code for one in sent]
    won = statuses.index(202)
    assert sorted(statuses) in ([202, 400], [202, 202]), statuses
    if statuses == [202, 202]:  # one after the other
        return
    digest = digest_of(contents[won])
    done = two[1 - won].client.put(location, params={"digest": digest})
    assert done.status_code == 201, done.text
    assert pull(two[won], digest) == contents[won]


def test_a_client_that_leaves_leaves_nothing_behind(
    two: tuple[Replica, Replica], bucket: Bucket
) -> None:
    """Of a blob whose digest it told before, no byte is seen, nor any part kept."""
    digest = digest_of(LARGE)
    location = path_of(two[0].client.post(UPLOADS))
    url = two[0].client.base_url
    request = two[0].client.build_request("PUT", location, params={"digest": digest}, content=LARGE)
    authorization = httpx.BasicAuth("pusher", "correct horse")
    sent = next(authorization.auth_flow(request))
    head = f"PUT {sent.url.raw_path.decode()} HTTP/1.1\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in sent.headers.items()
    )
    with socket.create_connection((url.host, url.port or 0)) as connection:
        connection.sendall(head.encode() + b"\r\n" + LARGE[: 17 * 1024 * 1024])
    wait_until(lambda: "PUT " in two[0].log.read_text())
    assert bucket.leftovers() == []
    assert bucket.blobs() == []
    done = two[1].client.put(location, params={"digest": digest}, content=LARGE)
    assert done.status_code == 201, done.text
    assert pull(two[0], digest) == LARGE


def test_nothing_acknowledged_is_lost_when_replicas_are_killed(
    tmp_path: Path, bucket: Bucket
) -> None:
    """Five kills under pushes, pulls, removals and collections; ``tests/soak`` has two hundred."""
    outcome = storm.run(storm.replicas_of(tmp_path, bucket), bucket, 5)
    storm.check(outcome, 5)


def test_status_tells_of_all_replicas(
    replicas: Replicas, two: tuple[Replica, Replica], bucket: Bucket
) -> None:
    """Each by its process, until it ends; what it collected and what it may pull, as it knows."""

    def told() -> list[int]:
        found = json.loads(replicas.run("status", "--json").stdout)
        assert found["attention"] == []
        assert found["storage"]["problem"] is None
        return sorted(one["pid"] for one in found["processes"])

    wait_until(lambda: told() == sorted(one.process.pid for one in two))
    two[0].process.terminate()
    two[0].process.wait()
    assert told() == [two[1].process.pid]


def test_a_bucket_that_is_gone_is_said(tmp_path: Path, bucket: Bucket) -> None:
    """By the command in a line, for whoever looks after the storage."""
    lost = Replicas(tmp_path, {"s3": bucket.server.settings("no-such-bucket")})
    done = lost.run("status")
    assert (done.returncode, done.stderr) == (3, "")
    assert "Needs a look:\n  storage: " in done.stdout
    assert "no-such-bucket" in done.stdout
