# SPDX-License-Identifier: Apache-2.0
"""Pulling: blobs and their ranges, manifests, lists, names, deletes; and what is refused."""

import json
import os

import httpx
import pytest
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from httpx import Client

from tests.api.configurations import on_disk, only, two_endpoints
from tests.api.harness import Registry, code, digest_of

CONTENT = bytes(range(256)) * 4
DIGEST = digest_of(CONTENT)
BLOB = f"/v2/org/app/blobs/{DIGEST}"


def test_a_blob_with_its_headers(registry: Registry) -> None:
    """GET and HEAD tell the same; the digest is the entity tag."""
    registry.push_blob("org/app", CONTENT)
    got, head = registry.pull.get(BLOB), registry.pull.head(BLOB)
    assert got.content == CONTENT
    assert head.content == b""
    for answer in (got, head):
        assert answer.status_code == 200
        assert answer.headers["content-length"] == str(len(CONTENT))
        assert answer.headers["docker-content-digest"] == DIGEST
        assert answer.headers["etag"] == f'"{DIGEST}"'
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
    unchanged = registry.pull.get(BLOB, headers={"If-None-Match": f'"{DIGEST}"'})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", CONTENT[:1]),
        ("bytes=10-19", CONTENT[10:20]),
        ("bytes=1000-", CONTENT[1000:]),
        ("bytes=-24", CONTENT[-24:]),
        ("bytes=1020-9999", CONTENT[1020:]),
        ("bytes=-9999", CONTENT),
    ],
)
def test_a_range_of_a_blob(registry: Registry, header: str, part: bytes) -> None:
    """One range is 206 with its place in the whole."""
    registry.push_blob("org/app", CONTENT)
    answer = registry.pull.get(BLOB, headers={"Range": header})
    assert (answer.status_code, answer.content) == (206, part)
    start = len(CONTENT) - len(part) if header.endswith("-") or "=-" in header else None
    if start is not None:
        assert answer.headers["content-range"] == f"bytes {start}-1023/1024"


def test_a_range_outside_is_416_and_nonsense_is_ignored(registry: Registry) -> None:
    """A client that asks past the end hears how long the blob is."""
    registry.push_blob("org/app", CONTENT)
    answer = registry.pull.get(BLOB, headers={"Range": "bytes=1024-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */1024")
    for header in ("bytes=0-99999999999999999999", "lines=1-2", "bytes=-", "nonsense"):
        assert registry.pull.get(BLOB, headers={"Range": header}).status_code == 200


def test_an_empty_blob(registry: Registry) -> None:
    """Nothing is content, too."""
    digest = registry.push_blob("org/app", b"")
    answer = registry.pull.get(f"/v2/org/app/blobs/{digest}")
    assert (answer.status_code, answer.content) == (200, b"")
    part = registry.pull.get(f"/v2/org/app/blobs/{digest}", headers={"Range": "bytes=0-"})
    assert (part.status_code, part.content) == (200, b"")


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        (BLOB, 404, "BLOB_UNKNOWN"),
        ("/v2/org/app/manifests/none", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/org/app/manifests/{DIGEST}", 404, "MANIFEST_UNKNOWN"),
        ("/v2/org/none/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/org/app/blobs/sha256:1", 400, "DIGEST_INVALID"),
        ("/v2/UPPER/manifests/v1", 400, "NAME_INVALID"),
        ("/v2/..%2f..%2fetc/manifests/v1", 400, "NAME_INVALID"),
        ("/v2/a%00b/manifests/v1", 400, "NAME_INVALID"),
        (f"/v2/{'a' * 300}/manifests/v1", 400, "NAME_INVALID"),
        ("/v2/org/app/manifests/.bad", 400, "TAG_INVALID"),
        ("/v2/_catalog?n=x", 400, "PAGINATION_NUMBER_INVALID"),
        ("/v2/org/app", 404, "UNSUPPORTED"),
    ],
)
def test_what_is_not_there_or_not_valid(
    registry: Registry, path: str, status: int, expected: str
) -> None:
    """Each with the specification's error body."""
    answer = registry.pull.get(path)
    assert (answer.status_code, code(answer)) == (status, expected)


@only(two_endpoints, why="where one port does both it shows what the registry holds")
def test_the_pull_endpoint_has_no_page(registry: Registry) -> None:
    answer = registry.pull.get("/")
    assert (answer.status_code, code(answer)) == (404, "UNSUPPORTED")


def test_one_image_by_all_its_names(registry: Registry) -> None:
    """Docker Hub's names are one; a push by one is pulled by each."""
    digest = registry.push_image("app", "v1", b"app")
    for name in ("app", "library/app", "docker.io/library/app", "docker.io/app"):
        answer = registry.pull.get(f"/v2/{name}/manifests/v1")
        assert answer.headers["docker-content-digest"] == digest, name
    assert registry.pull.get("/v2/app/manifests/v1", params={"ns": "docker.io"}).is_success
    assert registry.pull.get("/v2/app/manifests/v1", params={"ns": "quay.io"}).status_code == 404


def test_a_repository_of_another_registry_by_path_and_by_namespace(registry: Registry) -> None:
    """``quay.io/org/app`` and ``org/app?ns=quay.io`` are one."""
    digest = registry.push_image("quay.io/org/app", "v1", b"quay")
    answer = registry.pull.get("/v2/org/app/manifests/v1", params={"ns": "quay.io"})
    assert answer.headers["docker-content-digest"] == digest
    assert registry.pull.get("/v2/org/app/manifests/v1").status_code == 404


def test_both_names_of_an_official_image_keep_their_own_tags(registry: Registry) -> None:
    """Where each was pushed by itself, each is found by the name it was pushed by."""
    one = registry.push_image("app", "v1", b"1")
    two = registry.push_image("library/app", "v1", b"2")
    for name, digest in (("app", one), ("library/app", two)):
        answer = registry.pull.head(f"/v2/{name}/manifests/v1")
        assert answer.headers["docker-content-digest"] == digest


def pages(client: Client, path: str, key: str) -> list[list[str]]:
    found = []
    while path:
        answer = client.get(path)
        found.append(answer.json()[key])
        path = answer.links.get("next", {}).get("url") or ""
    return found


def test_tags_in_pages(registry: Registry) -> None:
    """In lexical order, with a link to what follows; the last page has none."""
    raw = registry.image("org/app")
    for tag in ("b", "a", "C", "d", "e"):
        assert registry.put_manifest("org/app", tag, raw).is_success
    whole = registry.pull.get("/v2/org/app/tags/list").json()
    assert whole == {"name": "org/app", "tags": ["C", "a", "b", "d", "e"]}
    found = pages(registry.pull, "/v2/org/app/tags/list?n=2", "tags")
    assert found == [["C", "a"], ["b", "d"], ["e"]]
    after = registry.pull.get("/v2/org/app/tags/list?n=2&last=b").json()["tags"]
    assert after == ["d", "e"]
    assert registry.pull.get("/v2/org/app/tags/list?n=0").json()["tags"] == []


def test_the_catalog_in_pages(registry: Registry) -> None:
    """Every repository once, on both endpoints."""
    for name in ("c", "a/b", "quay.io/x", "a"):
        registry.push_blob(name, CONTENT)
    assert pages(registry.push, "/v2/_catalog?n=3", "repositories") == [
        ["a", "a/b", "c"],
        ["quay.io/x"],
    ]
    assert registry.pull.get("/v2/_catalog").json()["repositories"] == [
        "a",
        "a/b",
        "c",
        "quay.io/x",
    ]


def test_deleting_a_tag_leaves_the_manifest(registry: Registry) -> None:
    """The tag is gone at once; deleting it again is 404."""
    digest = registry.push_image("org/app", "v1")
    assert registry.push.delete("/v2/org/app/manifests/v1").status_code == 202
    assert registry.pull.get("/v2/org/app/manifests/v1").status_code == 404
    assert registry.pull.get(f"/v2/org/app/manifests/{digest}").status_code == 200
    assert registry.push.delete("/v2/org/app/manifests/v1").status_code == 404


def test_deleting_a_manifest_takes_its_tags(registry: Registry) -> None:
    """No tag is left that points to nothing."""
    digest = registry.push_image("org/app", "v1")
    other = registry.push_image("org/app", "v2", b"other")
    assert registry.push.delete(f"/v2/org/app/manifests/{digest}").status_code == 202
    assert registry.pull.get(f"/v2/org/app/manifests/{digest}").status_code == 404
    assert registry.pull.get("/v2/org/app/tags/list").json()["tags"] == ["v2"]
    assert registry.pull.get(f"/v2/org/app/manifests/{other}").status_code == 200
    assert registry.push.delete(f"/v2/org/app/manifests/{digest}").status_code == 404


def test_deleting_a_blob(registry: Registry) -> None:
    """It is gone from this repository only."""
    registry.push_blob("org/app", CONTENT)
    registry.push_blob("org/other", CONTENT)
    assert registry.push.delete(BLOB).status_code == 202
    assert registry.pull.get(BLOB).status_code == 404
    assert registry.pull.get(f"/v2/org/other/blobs/{DIGEST}").status_code == 200
    assert registry.push.delete(BLOB).status_code == 404


def test_referrers_of_a_manifest(registry: Registry) -> None:
    """Artifacts are listed by their subject, also one that comes later, and can be filtered."""
    raw = registry.image("org/app")
    subject = {"mediaType": OCI_MANIFEST, "digest": digest_of(raw), "size": len(raw)}
    config = registry.push_blob("org/app", b"{}")
    path = f"/v2/org/app/referrers/{subject['digest']}"
    assert registry.pull.get(path).json()["manifests"] == []
    for kind in ("text/a", "text/b"):
        artifact = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": kind,
            "config": {"mediaType": "application/x", "digest": config, "size": 2},
            "layers": [],
            "subject": subject,
            "annotations": {"kind": kind},
        }
        content = json.dumps(artifact).encode()
        answer = registry.put_manifest("org/app", digest_of(content), content)
        assert answer.headers["oci-subject"] == subject["digest"]
    answer = registry.pull.get(path)
    assert answer.headers["content-type"] == OCI_INDEX
    assert {one["artifactType"] for one in answer.json()["manifests"]} == {"text/a", "text/b"}
    answer = registry.pull.get(path, params={"artifactType": "text/a"})
    assert answer.headers["oci-filters-applied"] == "artifactType"
    (found,) = answer.json()["manifests"]
    assert found["annotations"] == {"kind": "text/a"}
    assert registry.push.delete(f"/v2/org/app/manifests/{found['digest']}").status_code == 202
    assert len(registry.pull.get(path).json()["manifests"]) == 1


def test_a_method_that_is_not_possible_names_those_that_are(registry: Registry) -> None:
    """405 with Allow."""
    answer = registry.push.post("/v2/org/app/tags/list")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_every_request_is_a_line_of_the_log(registry: Registry) -> None:
    """Client, user, time, request, status, bytes, seconds, agent; no line can be forged."""
    registry.push_blob("org/app", CONTENT)
    registry.pull.get(BLOB, headers={"User-Agent": 'evil" 200'})
    registry.stop()
    lines = registry.log.read_text().splitlines()
    got = next(line for line in lines if "GET /v2/org/app/blobs" in line)
    assert got.startswith("127.0.0.1 - [")
    assert f'"GET {BLOB}" 200 1024 ' in got
    assert got.endswith('"evil? 200"')
    assert any(line.startswith("127.0.0.1 buildset [") and " 201 " in line for line in lines)


def test_a_client_that_leaves_ends_its_own_transfer_only(registry: Registry) -> None:
    """The rest of a large answer is not read for nobody; that it left takes a while to be heard."""
    content = bytes(256 * 1024 * 1024)
    path = f"/v2/org/app/blobs/{registry.push_blob('org/app', content)}"
    with registry.pull.stream("GET", path, headers={"Range": "bytes=1-"}) as answer:
        next(answer.iter_raw())
    assert registry.pull.get(path, headers={"Range": "bytes=0-9"}).content == content[:10]
    registry.wait_for_log(f'"GET {path}" 499 0 ')


@only(on_disk, why="it damages the file")
def test_a_damaged_blob_ends_short(registry: Registry) -> None:
    """The client sees a broken transfer, never a shorter blob that looks whole."""
    digest = registry.push_blob("org/app", bytes(64 * 1024 * 1024))
    (data,) = registry.storage.rglob(f"{digest[7:]}/data")
    with registry.pull.stream(
        "GET", f"/v2/org/app/blobs/{digest}", headers={"Range": "bytes=1-"}
    ) as answer:
        os.truncate(data, 40 * 1024 * 1024)
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()
