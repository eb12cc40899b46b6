# SPDX-License-Identifier: Apache-2.0
"""Questions of clients that are about to push, or only look: HEAD of manifests and blobs."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from trustme import CA

from tests.api.configurations import on_disk, only, two_endpoints
from tests.api.harness import PASSWORD, USER, Harness, digest_of
from tests.unit.upstream.lab import (
    BLOB,
    BLOB_DIGEST,
    BLOB_PATH,
    MANIFEST,
    V1_PATH,
    Server,
    by_method,
    manifest,
    reply,
)

NAME = "quay.io/org/app"
TAG, BY_DIGEST = f"/v2/{NAME}/manifests/v1", f"/v2/{NAME}/manifests/{digest_of(MANIFEST)}"
LAYER = f"/v2/{NAME}/blobs/{BLOB_DIGEST}"
DIGEST_PATH = f"/v2/org/app/manifests/{digest_of(MANIFEST)}"
ASKED = (TAG, BY_DIGEST, LAYER)
LOGIN = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@pytest.fixture
def start(quay: Server, harness: Harness, authority: CA) -> Callable[..., Any]:
    """Start a registry in front of quay.io; arguments are of its configuration."""
    authority.cert_pem.write_to_path(harness.folder / "ca.pem")
    told = manifest(Docker_Content_Digest=digest_of(MANIFEST))
    for path in (V1_PATH, DIGEST_PATH):
        quay.on(path, told)

    def make(**settings: Any) -> Any:
        upstream = {"name": "quay.io", "url": quay.url, "ca": "ca.pem"}
        return harness.start(upstreams=[upstream], **settings)

    return make


def as_whom(registry: Any) -> dict[str, dict[str, str]]:
    """Return headers by who asks at a single port."""

    def token(actions: str) -> dict[str, str]:
        answer = registry.push.get("/token", params={"scope": f"repository:{NAME}:{actions}"})
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    return {
        "nobody": {},
        "password": {"Authorization": LOGIN},
        "token to pull": token("pull"),
        "token to push": token("pull,push"),
    }


def pushed_links(registry: Any) -> Any:
    """Return whether a blob is linked as pushed to quay.io's repository."""
    return (registry.storage / "docker/registry/v2/repositories" / NAME / "_layers").exists()


@only(on_disk, why="it looks into the files")
def test_asking_writes_nothing_for_who_may_not_push(start: Callable[..., Any]) -> None:
    """A blob that was pulled through goes on being evicted; who may push is promised it."""
    registry = start()
    assert registry.pull.get(LAYER).content == BLOB
    (data,) = registry.storage.glob("docker/registry/v2/blobs/sha256/*/*/data")
    before = data.stat().st_mtime_ns
    for method in ("HEAD", "GET"):
        assert registry.anonymous.request(method, LAYER).status_code == 200
        assert registry.pull.request(method, LAYER).status_code == 200
    assert not pushed_links(registry)
    assert data.stat().st_mtime_ns == before
    assert registry.push.head(LAYER).status_code == 200
    assert pushed_links(registry)


@pytest.mark.parametrize(
    "settings",
    [
        {"read_only": True},
        {"auth": {"rules": [{"repositories": ["**"], "actions": ["pull"]}]}},
        {"single": True, "read_only": True},
        {"single": True, "auth": {"rules": [{"repositories": ["**"], "actions": ["pull"]}]}},
    ],
)
@only(on_disk, why="it looks into the files")
def test_asking_writes_nothing_where_a_user_may_not_push(
    start: Callable[..., Any], settings: dict[str, Any]
) -> None:
    """While the registry is read-only; or where the rules let the user only pull."""
    registry = start()
    assert registry.pull.get(LAYER).content == BLOB
    registry.stop()
    registry = start(**settings)
    assert registry.push.head(LAYER).status_code == 200
    assert not pushed_links(registry)


@only(on_disk, why="it looks into the files")
def test_asking_at_a_single_port_writes_nothing_for_nobody(start: Callable[..., Any]) -> None:
    """It is answered from the store, or by upstream."""
    registry = start(single=True)
    assert registry.anonymous.get(LAYER).content == BLOB
    assert registry.anonymous.head(LAYER).status_code == 200
    assert not pushed_links(registry)
    assert registry.push.head(LAYER).status_code == 200
    assert pushed_links(registry)


@pytest.mark.parametrize(("status", "passed_on"), [(429, 429), (503, 502)])
def test_a_push_needs_no_upstream(
    start: Callable[..., Any], quay: Server, status: int, passed_on: int
) -> None:
    """Where upstream fails, what may be a push is told that nothing is there yet."""
    registry = start(single=True)
    for path in (V1_PATH, DIGEST_PATH, BLOB_PATH):
        quay.on(path, reply(status, Retry_After="1"))
    for who, headers in as_whom(registry).items():
        quay.asked.clear()
        for path in ASKED:
            answer = registry.anonymous.head(path, headers=headers)
            expected = passed_on if who == "nobody" else 404
            assert answer.status_code == expected, (who, path)
        assert who != "token to push" or not quay.asked
    raw = registry.image(NAME)
    assert registry.put_manifest(NAME, "v1", raw).status_code == 201
    for who, headers in as_whom(registry).items():
        answer = registry.anonymous.head(TAG, headers=headers)
        assert answer.headers["docker-content-digest"] == digest_of(raw), who


@pytest.mark.parametrize("cached", [False, True])
def test_what_upstream_has_is_no_reason_to_leave_a_push_out(
    start: Callable[..., Any], quay: Server, cached: bool
) -> None:
    """A token to push is told of what was pushed; a puller gets upstream's image."""
    registry = start(single=True)
    if cached:
        for path in (TAG, BY_DIGEST):
            assert registry.anonymous.get(path).content == MANIFEST
    for who, headers in as_whom(registry).items():
        for path in (TAG, BY_DIGEST):
            answer = registry.anonymous.head(path, headers=headers)
            assert answer.status_code == (404 if who == "token to push" else 200), (who, path)
            got = registry.anonymous.get(path, headers=headers)
            assert got.content == MANIFEST, (who, path)


@only(two_endpoints, why="it is about the endpoint to push to")
def test_the_push_endpoint_tells_who_pushes_of_what_was_pushed(
    start: Callable[..., Any],
) -> None:
    """A tag that was pulled through is none that a push could leave out."""
    registry = start()
    assert registry.pull.get(TAG).content == MANIFEST
    assert registry.anonymous.head(TAG).status_code == 200
    assert registry.push.head(TAG).status_code == 404
    media_type = "application/vnd.oci.image.index.v1+json"
    assert registry.put_manifest(NAME, "v1", MANIFEST, media_type).status_code == 201
    assert registry.push.head(TAG).headers["docker-content-digest"] == digest_of(MANIFEST)


def test_a_tag_that_is_not_here_is_asked_for_by_head(
    start: Callable[..., Any], quay: Server
) -> None:
    """Limits count GET; the answer is that of the GET that follows."""
    registry = start()
    head = registry.pull.head(TAG)
    assert [asked.method for asked in quay.asked] == ["HEAD"]
    got = registry.pull.get(TAG)
    assert [asked.method for asked in quay.asked] == ["HEAD", "GET"]
    for name in ("content-length", "content-type", "docker-content-digest", "etag"):
        assert head.headers[name] == got.headers[name]
    assert registry.pull.head(TAG).headers["content-length"] == str(len(MANIFEST))
    assert len(quay.asked) == 2


@pytest.mark.parametrize("cached", [False, True])
def test_a_tag_that_head_told_holds_once_its_manifest_is_here(
    start: Callable[..., Any], quay: Server, cached: bool
) -> None:
    """containerd and docker ask so: HEAD of the tag, GET by digest; then upstream may go away."""
    registry = start()
    for path in (BY_DIGEST, TAG) if cached else (TAG, BY_DIGEST):
        method = "HEAD" if path == TAG else "GET"
        assert registry.pull.request(method, path).status_code == 200
    for path in (V1_PATH, DIGEST_PATH):
        quay.on(path, reply(503))
    for method in ("HEAD", "GET"):
        answer = registry.pull.request(method, TAG)
        assert answer.status_code == 200
        assert answer.headers["docker-content-digest"] == digest_of(MANIFEST)


def test_a_tag_holds_as_head_told_it_last(start: Callable[..., Any], quay: Server) -> None:
    """A manifest that is fetched later for another reason does not get the tag back."""
    registry = start()
    assert registry.pull.head(TAG).status_code == 200
    moved = b'{"schemaVersion":2,"manifests":[],"annotations":{"moved":"yes"}}'
    quay.on(V1_PATH, manifest(moved, Docker_Content_Digest=digest_of(moved)))
    assert registry.pull.head(TAG).headers["docker-content-digest"] == digest_of(moved)
    assert registry.pull.get(BY_DIGEST).status_code == 200
    assert registry.pull.get(TAG).content == moved


@pytest.mark.parametrize(
    "refusal",
    [reply(403), reply(404), reply(200, Content_Type="text/html")],
    ids=["hidden", "unknown", "a web page"],
)
def test_a_head_decides_nothing_that_get_would_not(
    start: Callable[..., Any], quay: Server, refusal: Any
) -> None:
    """Some registries refuse HEAD alone."""
    registry = start()
    quay.on(V1_PATH, by_method(HEAD=refusal, GET=manifest()))
    answer = registry.pull.head(TAG)
    assert answer.headers["docker-content-digest"] == digest_of(MANIFEST)
