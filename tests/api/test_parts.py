# SPDX-License-Identifier: Apache-2.0
"""Several ranges in one request, and requests that depend on what the client has already."""

import email
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from buildset_registry.oci.descriptor import OCI_MANIFEST
from httpx import Response

from tests.api.harness import Harness, Registry, digest_of

CONTENT = hashlib.shake_256(b"content").digest(100_000)
DIGEST = digest_of(CONTENT)
TAG = f'"{DIGEST}"'
OTHER = f'"{digest_of(b"other")}"'
BLOB = f"/v2/org/app/blobs/{DIGEST}"


def parts(answer: Response) -> list[tuple[str, bytes]]:
    """Return the Content-Range and the content of each part of a multipart answer."""
    assert answer.status_code == 206
    assert len(answer.content) == int(answer.headers["content-length"])
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content, policy=HTTP)
    assert message.get_content_type() == "multipart/byteranges"
    assert {part.get_content_type() for part in message.iter_parts()} == {
        "application/octet-stream"
    }
    return [(part["Content-Range"], part.get_content()) for part in message.iter_parts()]


def spans(header: str) -> list[tuple[str, bytes]]:
    """Return what ``parts`` should give for a Range that lies inside."""
    asked = [one.split("-") for one in header.removeprefix("bytes=").split(",")]
    ends = [(int(first), int(last) + 1) for first, last in asked]
    return [(f"bytes {start}-{end - 1}/{len(CONTENT)}", CONTENT[start:end]) for start, end in ends]


@pytest.mark.parametrize(
    "header",
    [
        "bytes=0-9,20-29",
        "bytes=90000-99999,5-5,6-6",
        "bytes=" + ",".join(f"{start}-{start + 40}" for start in range(0, 98_000, 100)),
    ],
)
def test_several_ranges_are_as_many_parts(registry: Registry, header: str) -> None:
    """In the order of the request, adjacent ones too: clients of zstd:chunked count them."""
    registry.push_blob("org/app", CONTENT)
    assert parts(registry.pull.get(BLOB, headers={"Range": header})) == spans(header)


def test_one_of_several_ranges_that_lies_inside_is_a_plain_answer(registry: Registry) -> None:
    """The others are left out."""
    registry.push_blob("org/app", CONTENT)
    answer = registry.pull.get(BLOB, headers={"Range": "bytes=5-9,200000-200001"})
    assert (answer.status_code, answer.content) == (206, CONTENT[5:10])
    assert answer.headers["content-range"] == "bytes 5-9/100000"


def test_ranges_that_overlap_are_ignored(registry: Registry) -> None:
    """More than the whole is never sent."""
    registry.push_blob("org/app", CONTENT)
    answer = registry.pull.get(BLOB, headers={"Range": "bytes=0-,0-"})
    assert (answer.status_code, answer.content) == (200, CONTENT)


class SlowUpstream(BaseHTTPRequestHandler):
    """A registry that sends half of a blob, and the rest once it is told to."""

    go_on = threading.Event()

    def do_GET(self) -> None:
        found = self.path == BLOB
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(CONTENT) if found else 0))
        self.end_headers()
        if found:
            self.wfile.write(CONTENT[:50_000])
            self.wfile.flush()
            assert self.go_on.wait(60)
            self.wfile.write(CONTENT[50_000:])

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def slow_upstream() -> Iterator[str]:
    """A slow upstream's URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), SlowUpstream)
    SlowUpstream.go_on.clear()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    SlowUpstream.go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_several_ranges_of_a_blob_that_is_still_arriving(
    harness: Harness, slow_upstream: str
) -> None:
    """What is there is sent at once, what follows as it comes."""
    registry = harness.start(upstreams=[{"name": "docker.io", "url": slow_upstream}])
    header = "bytes=100-199,40000-40999,70000-99999"
    with registry.pull.stream("GET", BLOB, headers={"Range": header}) as answer:
        pieces = answer.iter_raw()
        begun = b""
        while CONTENT[40000:41000] not in begun:
            begun += next(pieces)
        SlowUpstream.go_on.set()
        rest = b"".join(pieces)
    whole = httpx.Response(206, headers=answer.headers, content=begun + rest)
    assert parts(whole) == spans(header)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": TAG}, 304),
        ({"If-None-Match": f"{OTHER}, W/{TAG}"}, 304),
        ({"If-None-Match": DIGEST}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": OTHER}, 200),
        ({"If-Match": TAG}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": f"{OTHER}, {TAG}"}, 200),
        ({"If-Match": OTHER}, 412),
        ({"If-Match": f"W/{TAG}"}, 412),
        ({"If-Match": OTHER, "If-None-Match": TAG}, 412),
        ({"If-Modified-Since": "Tue, 24 Nov 2026 00:00:00 GMT"}, 200),
    ],
)
@pytest.mark.parametrize("kind", ["blobs", "manifests"])
def test_a_request_under_a_condition(
    registry: Registry, kind: str, headers: dict[str, str], status: int
) -> None:
    """GET and HEAD of blobs and manifests obey RFC 9110, section 13, with the digest as tag."""
    raw = registry.image("org/app")
    digest = digest_of(raw)
    registry.put_manifest("org/app", "v1", raw)
    asked = {name: value.replace(DIGEST, digest) for name, value in headers.items()}
    path = f"/v2/org/app/{kind}/{digest}"
    got, head = (registry.pull.request(method, path, headers=asked) for method in ("GET", "HEAD"))
    assert (got.status_code, head.status_code) == (status, status)
    if status == 304:
        assert got.headers["etag"] == head.headers["etag"] == f'"{digest}"'
    if status == 412:
        assert got.json()["errors"][0]["code"] == "PRECONDITION_FAILED"


def test_a_tag_that_nobody_overwrites(registry: Registry) -> None:
    """``If-None-Match: *`` pushes a new tag, and leaves one that is there as it is."""
    first, second = registry.image("org/app", b"1"), registry.image("org/app", b"2")
    path = "/v2/org/app/manifests/v1"
    headers = {"If-None-Match": "*", "Content-Type": OCI_MANIFEST}
    assert registry.push.put(path, content=first, headers=headers).status_code == 201
    assert registry.push.put(path, content=second, headers=headers).status_code == 412
    assert registry.push.delete(path, headers=headers).status_code == 412
    assert registry.pull.get(path).content == first


def test_a_tag_that_moves_from_what_the_client_saw(registry: Registry) -> None:
    """``If-Match`` changes or deletes a tag only while it points there."""
    first, second = registry.image("org/app", b"1"), registry.image("org/app", b"2")
    path = "/v2/org/app/manifests/v1"

    def change(method: str, seen: bytes, content: bytes | None = None) -> int:
        headers = {"If-Match": f'"{digest_of(seen)}"', "Content-Type": OCI_MANIFEST}
        return registry.push.request(method, path, headers=headers, content=content).status_code

    assert change("PUT", first, content=first) == 412
    assert change("DELETE", first) == 404
    registry.put_manifest("org/app", "v1", first)
    assert change("PUT", first, content=second) == 201
    assert change("PUT", first, content=first) == 412
    assert change("DELETE", first) == 412
    assert registry.pull.get(path).content == second
    assert change("DELETE", second) == 202


def test_one_of_many_creates_a_tag(registry: Registry) -> None:
    """Of pushes at the same time that all want to be the first, one is."""
    images = [registry.image("org/app", b"%d" % number) for number in range(8)]
    path = "/v2/org/app/manifests/v1"
    headers = {"If-None-Match": "*", "Content-Type": OCI_MANIFEST}
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda raw: registry.push.put(path, content=raw, headers=headers), images)
        )
    assert sorted(answer.status_code for answer in answers) == [201] + 7 * [412]
    (won,) = [raw for raw, answer in zip(images, answers, strict=True) if answer.is_success]
    assert registry.pull.get(path).content == won


@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
def test_what_is_not_there_meets_no_condition(registry: Registry, name: str) -> None:
    """404 comes before 304 and 412: "not modified" would promise that it is here."""
    for value in ("*", TAG):
        assert registry.pull.get(BLOB, headers={name: value}).status_code == 404


@pytest.mark.parametrize(
    ("validator", "status"),
    [(TAG, 206), (OTHER, 200), (f"W/{TAG}", 200), ("Tue, 24 Nov 2026 00:00:00 GMT", 200)],
)
def test_a_range_of_the_content_that_the_client_has_a_part_of(
    registry: Registry, validator: str, status: int
) -> None:
    """``If-Range`` that names other content, or a date, gets the whole."""
    registry.push_blob("org/app", CONTENT)
    answer = registry.pull.get(BLOB, headers={"Range": "bytes=5-9", "If-Range": validator})
    assert answer.status_code == status
    assert answer.content == (CONTENT[5:10] if status == 206 else CONTENT)
