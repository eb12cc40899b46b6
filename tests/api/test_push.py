# SPDX-License-Identifier: Apache-2.0
"""Pushing: uploads in every way, manifests, mounts; and what is refused."""

import http.client
import json
from typing import Any

import pytest
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST

from tests.api.configurations import alone, in_bucket, only, two_endpoints
from tests.api.harness import Harness, Registry, code, digest_of, raw

CONTENT = b"some content" * 1000
DIGEST = digest_of(CONTENT)
BLOB = f"/v2/org/app/blobs/{DIGEST}"
UPLOADS = "/v2/org/app/blobs/uploads/"


def start(registry: Registry) -> str:
    answer = registry.push.post(UPLOADS)
    assert answer.status_code == 202
    assert answer.headers["range"] == "0-0"
    assert answer.headers["docker-upload-uuid"] in answer.headers["location"]
    return answer.headers["location"]


def is_there(registry: Registry) -> bool:
    answer = registry.pull.get(BLOB)
    return answer.status_code == 200 and answer.content == CONTENT


def test_a_blob_by_post_and_put(registry: Registry) -> None:
    """The monolithic upload of two requests."""
    answer = registry.push.put(start(registry), params={"digest": DIGEST}, content=CONTENT)
    assert answer.status_code == 201
    assert answer.headers["location"] == BLOB
    assert answer.headers["docker-content-digest"] == DIGEST
    assert is_there(registry)


def test_an_upload_begins_with_the_promise_to_verify_it(registry: Registry) -> None:
    """So that a client may leave the hash of a blob to the registry."""
    begun = registry.push.post(UPLOADS)
    assert (begun.status_code, begun.headers["Buildset-Registry-Verifies"]) == (202, "digest")


def test_a_blob_by_one_post(registry: Registry) -> None:
    """The monolithic upload of one request."""
    answer = registry.push.post(UPLOADS, params={"digest": DIGEST}, content=CONTENT)
    assert answer.status_code == 201
    assert is_there(registry)


def test_a_blob_in_one_stream(registry: Registry) -> None:
    """What docker does: PATCH without a length, then PUT without a body."""
    location = registry.push.patch(start(registry), content=iter([CONTENT])).headers["location"]
    assert registry.push.put(location, params={"digest": DIGEST}).status_code == 201
    assert is_there(registry)


def test_a_blob_in_chunks_the_last_one_with_put(registry: Registry) -> None:
    """Chunks in order; the server tells at each how far it is."""
    location, half = start(registry), len(CONTENT) // 2
    answer = registry.push.patch(
        location, content=CONTENT[:half], headers={"Content-Range": f"0-{half - 1}"}
    )
    assert (answer.status_code, answer.headers["range"]) == (202, f"0-{half - 1}")
    state = registry.push.get(answer.headers["location"])
    assert (state.status_code, state.headers["range"]) == (204, f"0-{half - 1}")
    answer = registry.push.put(
        state.headers["location"],
        params={"digest": DIGEST},
        content=CONTENT[half:],
        headers={"Content-Range": f"{half}-{len(CONTENT) - 1}"},
    )
    assert answer.status_code == 201
    assert is_there(registry)


def test_a_chunk_out_of_order_is_refused_and_the_upload_goes_on(registry: Registry) -> None:
    """416 with the place to go on from; nothing of the chunk is taken."""
    location = start(registry)
    answer = registry.push.patch(
        location, content=CONTENT, headers={"Content-Range": f"5-{len(CONTENT) + 4}"}
    )
    assert (answer.status_code, answer.headers["range"]) == (416, "0-0")
    assert code(answer) == "BLOB_UPLOAD_INVALID"
    answer = registry.push.put(location, params={"digest": DIGEST}, content=CONTENT)
    assert answer.status_code == 201


@pytest.mark.parametrize("value", ["x", "5-1", "0-9"])
def test_a_chunk_with_a_wrong_range_is_refused(registry: Registry, value: str) -> None:
    """Neither nonsense nor another length than the body's."""
    answer = registry.push.patch(start(registry), content=CONTENT, headers={"Content-Range": value})
    assert answer.status_code == 400


@pytest.mark.parametrize("value", ["0-3", "0-9"])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_chunk_of_unknown_length_is_as_long_as_its_range(
    registry: Registry, value: str, method: str
) -> None:
    """Neither longer nor shorter; no byte past the range stays."""
    location = start(registry)
    body = iter([CONTENT[:2], CONTENT[2:]])
    params = {"digest": DIGEST} if method == "PUT" else {}
    headers = {"Content-Range": value}
    answer = registry.push.request(method, location, content=body, params=params, headers=headers)
    assert (answer.status_code, code(answer)) == (400, "SIZE_INVALID")
    kept = registry.push.get(location).headers["range"]
    assert int(kept.removeprefix("0-")) <= int(value.removeprefix("0-"))


def test_a_mount_of_nothing_is_an_upload(registry: Registry) -> None:
    """Templates leave both fields empty."""
    answer = registry.push.post("/v2/org/app/blobs/uploads/?mount=&from=")
    assert answer.status_code == 202


def test_a_cancelled_upload_is_unknown(registry: Registry) -> None:
    """After DELETE every request to it is 404."""
    location = start(registry)
    assert registry.push.delete(location).status_code == 204
    for answer in (registry.push.get(location), registry.push.patch(location, content=b"x")):
        assert (answer.status_code, code(answer)) == (404, "BLOB_UPLOAD_UNKNOWN")


@only(alone, why="replicas answer a request that a proxy sends a second time")
def test_an_upload_that_is_done_is_unknown(registry: Registry) -> None:
    """Its last request is not taken twice; the blob stays."""
    location = start(registry)
    for status in (201, 404):
        answer = registry.push.put(location, params={"digest": DIGEST}, content=CONTENT)
        assert answer.status_code == status
    assert code(answer) == "BLOB_UPLOAD_UNKNOWN"
    assert is_there(registry)


@only(in_bucket, why="a proxy sends a request to another replica where one dies with its answer")
@pytest.mark.parametrize("last", [b"", CONTENT[100:]], ids=["empty", "with the rest"])
def test_the_last_request_may_come_again(registry: Registry, last: bytes) -> None:
    """Its answer was lost: the blob is there, and the client goes on with the next one."""
    sent = CONTENT[: len(CONTENT) - len(last)]
    location = registry.push.patch(start(registry), content=sent).headers["location"]
    for _again in range(2):
        answer = registry.push.put(location, params={"digest": DIGEST}, content=last)
        assert answer.status_code == 201
        assert answer.headers["location"] == BLOB
    assert is_there(registry)
    missing = registry.push.put(location, params={"digest": digest_of(b"other")})
    elsewhere = registry.push.put(
        location.replace("/org/app/", "/org/other/"), params={"digest": DIGEST}
    )
    for answer in (missing, elsewhere, registry.push.put(location), registry.push.get(location)):
        assert (answer.status_code, code(answer)) == (404, "BLOB_UPLOAD_UNKNOWN")


@only(in_bucket, why="replicas answer a request that a proxy sends a second time")
def test_the_last_request_that_tells_its_place_may_come_again(harness: Harness) -> None:
    """Also after a restart, by which the session is one of which nothing has arrived."""
    registry, size = harness.start(), len(CONTENT)
    location = registry.push.patch(start(registry), content=CONTENT[:100]).headers["location"]
    asked: dict[str, Any] = {"url": location, "params": {"digest": DIGEST}}
    asked["content"] = CONTENT[100:]
    for _start in range(2):
        for _again in range(2):
            answer = registry.push.put(**asked, headers={"Content-Range": f"100-{size - 1}"})
            assert (answer.status_code, answer.headers.get("location")) == (201, BLOB)
        assert is_there(registry)
        registry.stop()
        registry = harness.start()
    # It is of another size than this one says.
    answer = registry.push.put(**asked, headers={"Content-Range": f"101-{size}"})
    assert answer.status_code == 416


def test_the_last_request_may_bring_what_has_arrived(registry: Registry) -> None:
    """It was broken off before it was answered; of all that is here, the digest decides."""
    last = {"Content-Range": f"100-{len(CONTENT) - 1}"}
    for digest, status in ((DIGEST, 201), (digest_of(b"other"), 400)):
        location = registry.push.patch(start(registry), content=CONTENT).headers["location"]
        short = {"Content-Range": f"101-{len(CONTENT) - 1}"}
        asked: dict[str, Any] = {"url": location, "params": {"digest": digest}}
        asked["content"] = CONTENT[100:]
        answer = registry.push.put(**asked, headers=short)
        assert (answer.status_code, code(answer)) == (400, "SIZE_INVALID")
        assert registry.push.put(**asked, headers=last).status_code == status
    assert is_there(registry)


@pytest.mark.parametrize("digest", [digest_of(b"other"), "sha256:1", ""])
def test_a_wrong_digest_is_refused(registry: Registry, digest: str) -> None:
    """Nothing is stored under either name."""
    answer = registry.push.put(start(registry), params={"digest": digest}, content=CONTENT)
    assert (answer.status_code, code(answer)) == (400, "DIGEST_INVALID")
    assert registry.pull.get(BLOB).status_code == 404


def test_a_blob_by_sha512(registry: Registry) -> None:
    """The other registered algorithm, for blobs and manifests."""
    digest = registry.push_blob("org/app", CONTENT, "sha512")
    assert registry.pull.get(f"/v2/org/app/blobs/{digest}").content == CONTENT
    raw = registry.image("org/app")
    reference = digest_of(raw, "sha512")
    assert registry.put_manifest("org/app", reference, raw).status_code == 201
    answer = registry.pull.get(f"/v2/org/app/manifests/{reference}")
    assert answer.headers["docker-content-digest"] == reference


def test_a_mount_saves_the_upload(registry: Registry) -> None:
    """From a named repository, or from whichever has it; else an upload begins."""
    registry.push_blob("org/app", CONTENT)
    mounted = registry.push.post(
        "/v2/org/other/blobs/uploads/", params={"mount": DIGEST, "from": "org/app"}
    )
    assert mounted.status_code == 201
    assert mounted.headers["location"] == f"/v2/org/other/blobs/{DIGEST}"
    assert registry.pull.get(f"/v2/org/other/blobs/{DIGEST}").content == CONTENT
    anywhere = registry.push.post("/v2/org/third/blobs/uploads/", params={"mount": DIGEST})
    assert anywhere.status_code == 201
    for source in ("org/none", "NOT A NAME"):
        answer = registry.push.post(
            "/v2/org/fourth/blobs/uploads/", params={"mount": DIGEST, "from": source}
        )
        assert answer.status_code == 202


def test_a_manifest_by_tag_and_by_digest(registry: Registry) -> None:
    """Both lead to the same bytes, with the type they were pushed by."""
    raw = registry.image("org/app")
    digest = digest_of(raw)
    answer = registry.put_manifest("org/app", "v1", raw)
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v2/org/app/manifests/{digest}"
    assert answer.headers["docker-content-digest"] == digest
    for reference in ("v1", digest):
        answer = registry.pull.get(f"/v2/org/app/manifests/{reference}")
        assert answer.content == raw
        assert answer.headers["content-type"] == OCI_MANIFEST
        assert answer.headers["docker-content-digest"] == digest


def test_a_manifest_with_several_tags_at_once(registry: Registry) -> None:
    """Pushed by digest, it gets every tag of the query, and the answer names them."""
    raw = registry.image("org/app")
    answer = registry.put_manifest("org/app", f"{digest_of(raw, 'sha512')}?tag=a&tag=b", raw)
    assert (answer.status_code, answer.headers["oci-tag"]) == (201, "a, b")
    for tag in "ab":
        found = registry.pull.head(f"/v2/org/app/manifests/{tag}")
        assert found.headers["docker-content-digest"] == digest_of(raw, "sha512")
    assert registry.put_manifest("org/app", "c?tag=.bad", raw).status_code == 400


def test_a_manifest_without_its_blobs_is_refused(registry: Registry) -> None:
    """The missing blob is named, and no tag appears."""
    raw = registry.image("org/app")
    answer = registry.put_manifest("org/other", "v1", raw)
    assert (answer.status_code, code(answer)) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert answer.json()["errors"][0]["detail"]["digest"] in raw.decode()
    assert registry.pull.get("/v2/org/other/manifests/v1").status_code == 404


def test_a_manifest_before_its_blobs_where_that_is_allowed(harness: Harness) -> None:
    """``sparse_images`` lets the layers come later."""
    registry = harness.start(sparse_images=True)
    raw = registry.image("org/app")
    assert registry.put_manifest("org/other", "v1", raw).status_code == 201
    assert registry.pull.get("/v2/org/other/manifests/v1").content == raw
    digest = json.loads(raw)["layers"][0]["digest"]
    assert registry.pull.get(f"/v2/org/other/blobs/{digest}").status_code == 404
    registry.push_blob("org/other", b"seed" * 10)
    assert registry.pull.get(f"/v2/org/other/blobs/{digest}").status_code == 200


@pytest.mark.parametrize(
    ("reference", "content", "media_type", "status", "expected"),
    [
        ("v1", b"{", OCI_MANIFEST, 400, "MANIFEST_INVALID"),
        ("v1", b"{}", OCI_MANIFEST, 400, "MANIFEST_INVALID"),
        ("v1", b'{"schemaVersion":1}', "", 400, "MANIFEST_INVALID"),
        ("v1", b" " * (4 * 1024 * 1024 + 1), OCI_MANIFEST, 413, "MANIFEST_INVALID"),
        (digest_of(b"other"), b'{"manifests":[]}', OCI_INDEX, 400, "DIGEST_INVALID"),
        ("-bad", b'{"manifests":[]}', OCI_INDEX, 400, "TAG_INVALID"),
    ],
)
def test_a_bad_manifest_is_refused(
    registry: Registry, reference: str, content: bytes, media_type: str, status: int, expected: str
) -> None:
    """Each with the specification's code."""
    answer = registry.put_manifest("org/app", reference, content, media_type)
    assert (answer.status_code, code(answer)) == (status, expected)


def test_any_media_type_is_kept(registry: Registry) -> None:
    """A custom manifest comes back with the type that only its push told."""
    raw = json.dumps({"anything": 1}).encode()
    answer = registry.put_manifest("org/app", "odd", raw, "application/vnd.example+json")
    assert answer.status_code == 201
    answer = registry.pull.get("/v2/org/app/manifests/odd")
    assert answer.headers["content-type"] == "application/vnd.example+json"


def test_a_tag_moves(registry: Registry) -> None:
    """The last push wins; the older manifest stays by digest."""
    first = registry.push_image("org/app", "v1", b"1")
    second = registry.push_image("org/app", "v1", b"2")
    answer = registry.pull.head("/v2/org/app/manifests/v1")
    assert answer.headers["docker-content-digest"] == second
    assert registry.pull.head(f"/v2/org/app/manifests/{first}").status_code == 200


def test_a_push_with_a_namespace_is_that_registrys(registry: Registry) -> None:
    """``?ns=`` names the registry for pushes, too, and stays in the locations."""
    answer = registry.push.post(UPLOADS, params={"ns": "localhost:5000"})
    location = answer.headers["location"]
    assert location.endswith("?ns=localhost%3A5000")
    answer = registry.push.put(f"{location}&digest={DIGEST}", content=CONTENT)
    assert answer.status_code == 201
    assert registry.pull.get(BLOB).status_code == 404
    assert registry.pull.get(BLOB, params={"ns": "localhost:5000"}).content == CONTENT


@only(two_endpoints, why="one port takes both")
def test_the_pull_endpoint_is_read_only(registry: Registry) -> None:
    """Every write is 405 and names where to push."""
    for method, path in [
        ("POST", UPLOADS),
        ("PUT", "/v2/org/app/manifests/v1"),
        ("DELETE", "/v2/org/app/manifests/v1"),
        ("DELETE", BLOB),
    ]:
        answer = registry.pull.request(method, path)
        assert (answer.status_code, code(answer)) == (405, "UNSUPPORTED")
        assert "push to port" in answer.text


@only(two_endpoints, why="one port asks for tokens: test_auth")
def test_writing_needs_credentials(registry: Registry) -> None:
    """The push endpoint asks for them at once, and nothing is written without."""
    answer = registry.anonymous.get("/v2/")
    assert (answer.status_code, code(answer)) == (401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"].startswith("Basic realm=")
    assert registry.anonymous.post(UPLOADS).status_code == 401
    wrong = registry.anonymous.post(UPLOADS, auth=("buildset", "wrong"))
    assert wrong.status_code == 401
    assert registry.push.get("/v2/").status_code == 200


def test_a_client_that_sends_on_gets_its_answer(registry: Registry) -> None:
    """A refusal comes before the body ends: it is not lost, and the connection goes on."""
    connection = http.client.HTTPConnection(registry.push.base_url.host)
    with raw(registry.push) as connection.sock:
        for method, body in (("PUT", bytes(16 * 1024 * 1024)), ("GET", None)):
            connection.request(method, f"{UPLOADS}none", body)
            answer = connection.getresponse()
            assert answer.status == 401
            assert json.loads(answer.read())["errors"][0]["code"] == "UNAUTHORIZED"
