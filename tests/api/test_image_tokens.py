# SPDX-License-Identifier: Apache-2.0
"""Tokens for single images: what one reaches, and that it is refused for everything else."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import jwt
import pytest
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from httpx import Response

from tests.api.configurations import once, only
from tests.api.harness import PASSWORD, USER, Harness, Registry, digest_of

NAME = "quay.io/org/app"
KEY = b"k" * 64
one_row = only(once, why="what a token is for does not depend on where images are")


class Published(NamedTuple):
    """An index of two platforms with a signature by the API, one by a tag, and what it is of."""

    digest: str
    parts: list[str]
    """Paths below the repository of everything that belongs to it."""


def publish(registry: Registry, name: str, tag: str, seed: bytes) -> Published:
    """Push an index of two platforms, a signature of each kind, and all that they need."""
    raws = [registry.image(name, seed + platform) for platform in (b"amd64", b"arm64")]
    children = [described(raw) for raw in raws]
    for raw, child in zip(raws, children, strict=True):
        assert registry.put_manifest(name, child["digest"], raw).status_code == 201
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}).encode()
    assert registry.put_manifest(name, tag, index, OCI_INDEX).status_code == 201
    digest = digest_of(index)
    signature = json.loads(registry.image(name, seed + b"signature"))
    signature["subject"] = children[0]
    by_api = json.dumps(signature).encode()
    assert registry.put_manifest(name, digest_of(by_api), by_api).status_code == 201
    by_tag = registry.image(name, seed + b"cosign")
    cosign = f"{digest.replace(':', '-')}.sig"
    assert registry.put_manifest(name, cosign, by_tag).status_code == 201
    manifests = [tag, digest, cosign, *map(digest_of, (*raws, by_api, by_tag))]
    blobs = [blob for raw in (*raws, by_api, by_tag) for blob in blobs_of(raw)]
    subjects = [digest, *(child["digest"] for child in children)]
    return Published(
        digest,
        [f"manifests/{one}" for one in manifests]
        + [f"blobs/{one}" for one in blobs]
        + [f"referrers/{one}" for one in subjects],
    )


def described(raw: bytes) -> dict[str, Any]:
    return {"mediaType": OCI_MANIFEST, "digest": digest_of(raw), "size": len(raw)}


def blobs_of(raw: bytes) -> list[str]:
    tree = json.loads(raw)
    return [tree["config"]["digest"], *(layer["digest"] for layer in tree["layers"])]


def ask(registry: Registry, *scopes: str, **form: str) -> Response:
    """Ask for a token as OAuth2 has it."""
    who = {"grant_type": "password", "username": USER, "password": PASSWORD}
    return registry.anonymous.post("/token", data={**who, "scope": " ".join(scopes), **form})


def statuses(registry: Registry, token: str, name: str, paths: list[str]) -> set[int]:
    """Return how GET and HEAD are answered."""
    headers = {"Authorization": f"Bearer {token}"}
    return {
        registry.anonymous.request(method, f"/v2/{name}/{path}", headers=headers).status_code
        for path in paths
        for method in ("GET", "HEAD")
    }


@pytest.fixture
def closed(harness: Harness) -> Registry:
    """A registry that wants a login for everything."""
    (harness.folder / "token.key").write_bytes(KEY)
    return harness.start(auth={"token_key": "token.key", "anonymous_pull": False})


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_token_of_one_image_tried_on_everything_else(closed: Registry, by: str) -> None:
    """Its manifests, blobs and referrers are pulled; nothing else of anything is."""
    mine = publish(closed, NAME, "mine", b"mine")
    other = publish(closed, NAME, "other", b"other")
    elsewhere = publish(closed, "quay.io/org/secret", "mine", b"elsewhere")
    closed.push_image(NAME, "pushed", b"pushed")
    scope = f"image:{NAME}:mine:pull" if by == "tag" else f"image:{NAME}@{mine.digest}:pull"
    answer = ask(closed, scope, expires_in="7200").json()
    assert (answer["scope"], answer["expires_in"]) == (scope, 7200)
    token = answer["token"]
    theirs = mine.parts if by == "tag" else mine.parts[1:]
    assert statuses(closed, token, NAME, theirs) == {200}
    assert statuses(closed, token, NAME, other.parts) == {401}
    assert statuses(closed, token, "quay.io/org/secret", elsewhere.parts) == {401}
    assert statuses(closed, token, "quay.io/org/secret", mine.parts) == {401}
    assert statuses(closed, token, NAME, ["tags/list", "manifests/pushed"]) == {401}
    headers = {"Authorization": f"Bearer {token}"}
    client = closed.anonymous
    assert client.get("/v2/_catalog", headers=headers).status_code == 401
    assert client.get("/", headers=headers).status_code == 401
    for method, path in (
        ("POST", "blobs/uploads/"),
        ("POST", f"blobs/uploads/?mount={mine.digest}&from={NAME}"),
        ("PUT", "manifests/mine"),
        ("DELETE", "manifests/mine"),
        ("DELETE", f"manifests/{mine.digest}"),
    ):
        refused = client.request(method, f"/v2/{NAME}/{path}", headers=headers, content=b"{}")
        assert refused.status_code in (401, 405), (method, path)
    assert client.get("/token", headers=headers).status_code == 401
    assert closed.push.get(f"/v2/{NAME}/manifests/mine").status_code == 200


@one_row
def test_an_index_that_lists_what_is_of_others_opens_nothing(closed: Registry) -> None:
    """Whoever pushes says what belongs to an image; what another repository has is not there."""
    secret = closed.push_image("quay.io/org/secret", "v1", b"secret")
    sparse = {"mediaType": OCI_MANIFEST, "digest": secret, "size": 1}
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [sparse]}).encode()
    assert closed.put_manifest(NAME, "sparse", raw, OCI_INDEX).status_code == 201
    token = ask(closed, f"image:{NAME}:sparse:pull").json()["token"]
    assert statuses(closed, token, NAME, [f"manifests/{secret}"]) == {404}
    assert statuses(closed, token, "quay.io/org/secret", [f"manifests/{secret}"]) == {401}


@one_row
def test_a_token_of_one_image_ends(closed: Registry) -> None:
    """After its time it is refused; the registry bounds the time."""
    closed.push_image(NAME, "v1")
    scope = f"image:{NAME}:v1:pull"
    ended = jwt.decode(
        ask(closed, scope, expires_in="60").json()["token"], options={"verify_signature": False}
    )
    past = {**ended, "nbf": ended["nbf"] - 100, "exp": ended["exp"] - 61}
    old = jwt.encode(past, KEY, "HS256")
    good = jwt.encode(ended, KEY, "HS256")
    assert statuses(closed, good, NAME, ["manifests/v1"]) == {200}
    assert statuses(closed, old, NAME, ["manifests/v1"]) == {401}
    assert ask(closed, scope, expires_in="999999999").json()["expires_in"] == 24 * 3600


@one_row
def test_only_tokens_of_single_images_live_as_long_as_is_asked(closed: Registry) -> None:
    """One for a whole repository ends when it always did, also beside one image."""
    repository, image = f"repository:{NAME}:pull", f"image:{NAME}:v1:pull"
    for scopes in ([repository], [repository, image], []):
        assert ask(closed, *scopes, expires_in="7200").json()["expires_in"] == 300
    assert "scope" not in ask(closed, repository).json()
    for wrong in ("0", "-1", "1.5", "many", "1" * 30):
        assert ask(closed, image, expires_in=wrong).status_code == 405
    for nonsense in ("image:x:pull", "image::tag:pull", f"image:{NAME}@sha256:1:pull", "image:"):
        assert "scope" not in ask(closed, nonsense).json()
    pushes = ask(closed, f"image:{NAME}:v1:pull,push").json()
    assert pushes["scope"] == image


@one_row
def test_a_token_gives_no_more_than_the_rules(harness: Harness) -> None:
    """Who may not pull a repository gets no token for an image of it, and is told so."""
    rules = [{"users": [USER], "actions": ["pull"], "repositories": ["quay.io/open/**"]}]
    registry = harness.start(auth={"anonymous_pull": False, "rules": rules})
    answer = ask(registry, "image:quay.io/open/app:v1:pull", f"image:{NAME}:v1:pull").json()
    assert answer["scope"] == "image:quay.io/open/app:v1:pull"
    assert statuses(registry, answer["token"], NAME, ["manifests/v1"]) == {401}


@one_row
def test_a_token_reaches_what_only_upstream_has_of_its_image(harness: Harness) -> None:
    """Signatures that upstream lists, with all that belongs to them; and nothing else of it."""
    upstream = harness.start("quay")
    mine = publish(upstream, "org/app", "mine", b"mine")
    other = publish(upstream, "org/app", "other", b"other")
    harness.authority.cert_pem.write_to_path(str(harness.folder / "authority.pem"))
    url, ca = str(upstream.pull.base_url), str(harness.folder / "authority.pem")
    through = harness.start(
        auth={"anonymous_pull": False}, upstreams=[{"name": "quay.io", "url": url, "ca": ca}]
    )
    token = ask(through, f"image:{NAME}@{mine.digest}:pull").json()["token"]
    headers = {"Authorization": f"Bearer {token}"}

    def get(path: str) -> int:
        return through.pull.get(f"/v2/{NAME}/{path}", headers=headers).status_code

    index, *rest = mine.parts[1:]
    lists = [path for path in rest if path.startswith("referrers/")]
    children = [path.replace("referrers/", "manifests/") for path in lists]
    for path in [index, *children, *lists, *(path for path in rest if "manifests/" in path), *rest]:
        assert get(path) == 200, path
    assert {get(path) for path in other.parts} == {401}
