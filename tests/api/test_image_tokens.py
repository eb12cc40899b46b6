# SPDX-License-Identifier: Apache-2.0
"""Tokens for single images: what one reaches, and that it is refused for everything else."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import jwt
import pytest
from buildset_registry.image_lock.document import ImageLock, LockedImage, PublicName
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from buildset_registry.oci.digest import Digest
from httpx import Client, Response

from tests.api.configurations import once, only
from tests.api.harness import PASSWORD, USER, Harness, Registry, code, digest_of

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
    for actions, granted in (("pull,push", "pull,push"), ("push", "push"), ("delete,pull", "pull")):
        asked = ask(closed, f"image:{NAME}:v1:{actions}", expires_in="7200").json()
        assert (asked["scope"], asked["expires_in"]) == (f"image:{NAME}:v1:{granted}", 7200)
    by_digest = f"image:{NAME}@{digest_of(b'')}"
    assert ask(closed, f"{by_digest}:pull,push").json()["scope"] == f"{by_digest}:pull"
    query = {"scope": f"image:{NAME}:v1:push", "expires_in": "7200"}
    by_get = closed.push.get("/token", params=query).json()
    assert (by_get["scope"], by_get["expires_in"]) == (query["scope"], 7200)


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


@one_row
@pytest.mark.parametrize("locked", [False, True])
def test_a_token_reaches_by_digest_what_its_tag_is_at_upstream_alone(
    harness: Harness, locked: bool
) -> None:
    """containerd asks for the tag by HEAD, and gets what that told; so do clients of signatures."""
    upstream = harness.start("quay")
    mine = publish(upstream, "org/app", "mine", b"mine")
    other = publish(upstream, "org/app", "other", b"other")
    harness.authority.cert_pem.write_to_path(str(harness.folder / "authority.pem"))
    url, ca = str(upstream.pull.base_url), str(harness.folder / "authority.pem")
    lock = {PublicName.parse(f"{NAME}:mine"): LockedImage(Digest.parse(mine.digest))}
    (harness.folder / "images.lock").write_text(ImageLock(lock).dump())
    settings: dict[str, Any] = {"lock": {"file": "images.lock"}} if locked else {}
    through = harness.start(
        auth={"anonymous_pull": False},
        upstreams=[{"name": "quay.io", "url": url, "ca": ca}],
        **settings,
    )
    token = ask(through, f"image:{NAME}:mine:pull").json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    digests = []
    for tag in ("mine", f"{mine.digest.replace(':', '-')}.sig"):
        told = through.pull.head(f"/v2/{NAME}/manifests/{tag}", headers=headers)
        assert told.status_code == 200
        digests.append(told.headers["docker-content-digest"])
        got = through.pull.get(f"/v2/{NAME}/manifests/{digests[-1]}", headers=headers)
        assert (got.status_code, digest_of(got.content)) == (200, digests[-1])
        assert told.headers["content-length"] == str(len(got.content))
    assert digests[0] == mine.digest
    assert through.pull.get(f"/v2/{NAME}/{mine.parts[3]}", headers=headers).status_code == 200
    for path in other.parts:
        assert through.pull.get(f"/v2/{NAME}/{path}", headers=headers).status_code == 401


@one_row
def test_a_token_is_for_so_many_images_at_most(closed: Registry) -> None:
    """Each request with it may have all of them looked up; whoever asks may be nobody."""
    scopes = [f"image:a:{number:04}:pull" for number in range(201)]
    form = {"grant_type": "password", "scope": " ".join(scopes)}
    for answer in (
        closed.anonymous.post("/token", data=form),
        closed.anonymous.get("/token", params={"scope": " ".join(scopes)}),
        closed.anonymous.get("/token", params={"scope": scopes}),
        ask(closed, *scopes),
    ):
        told = answer.json()
        assert answer.status_code == 400, told
        assert code(answer) == "UNSUPPORTED"
        assert told["error"] == "invalid_scope"
        assert told["error_description"] == (
            "a token is for 200 scopes at most, and 201 are asked for; get several"
        )
    assert ask(closed, *scopes[1:]).json()["scope"].split() == scopes[1:]
    by_fields = closed.push.get("/token", params={"service": "a", "scope": scopes[1:]})
    assert by_fields.json()["scope"].split() == scopes[1:]


@one_row
def test_a_form_that_is_too_long_is_told_of(closed: Registry) -> None:
    """Of images with long names, fewer than 200 may be too many."""
    scopes = [f"image:{'a' * 200}/b:{number:0128}:pull" for number in range(200)]
    form = {"grant_type": "password", "scope": " ".join(scopes)}
    answer = closed.anonymous.post("/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")
    assert "a form of more than 65536 bytes is not read; ask for fewer" in answer.text


class Pusher(NamedTuple):
    """A client with a token that pushes an image."""

    client: Client

    def put(self, reference: str, raw: bytes, media_type: str = OCI_MANIFEST, **query: str) -> int:
        """Put a manifest in the repository and return the status."""
        url, headers = f"/v2/{NAME}/manifests/{reference}", {"Content-Type": media_type}
        return self.client.put(url, content=raw, headers=headers, params=query).status_code

    def head(self, path: str) -> int:
        """Ask about something in the repository."""
        return self.client.head(f"/v2/{NAME}/{path}").status_code

    def image(self, seed: bytes, subject: dict[str, Any] | None = None) -> bytes:
        """Send the blobs of an image and return its manifest."""
        parts = [self.blob(b'{"of": "%s"}' % seed), self.blob(seed * 3)]
        types = [f"application/vnd.oci.image.{one}" for one in ("config.v1+json", "layer.v1.tar")]
        config, layer = (
            dict(part, mediaType=kind) for part, kind in zip(parts, types, strict=True)
        )
        tree = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}
        return json.dumps(tree | ({"subject": subject} if subject else {})).encode()

    def blob(self, content: bytes) -> dict[str, Any]:
        """Send a blob in pieces, with a look at what has arrived, and return what names it."""
        digest = digest_of(content)
        location = self.client.post(f"/v2/{NAME}/blobs/uploads/").headers["location"]
        sent = self.client.patch(location, content=content)
        assert sent.status_code == 202, sent.text
        told = self.client.get(sent.headers["location"])
        assert (told.status_code, told.headers["range"]) == (204, f"0-{len(content) - 1}")
        done = self.client.put(told.headers["location"], params={"digest": digest})
        assert done.status_code == 201, done.text
        return {"digest": digest, "size": len(content)}


def pusher(registry: Registry, *scopes: str) -> Pusher:
    """Return one who may push what the scopes say, in an hour."""
    answer = ask(registry, *scopes, expires_in="3600").json()
    assert answer["scope"].split() == list(scopes)
    registry.anonymous.headers["Authorization"] = f"Bearer {answer['token']}"
    return Pusher(registry.anonymous)


def test_a_token_pushes_one_image_with_what_refers_to_it(closed: Registry) -> None:
    """Children by digest, the index by the tag, then signatures by the API and by tags."""
    by = pusher(closed, f"image:{NAME}:mine:push")
    raws = [by.image(seed) for seed in (b"amd64", b"arm64")]
    children = [described(raw) for raw in raws]
    assert by.head(f"manifests/{children[0]['digest']}") == 404
    for raw, child in zip(raws, children, strict=True):
        assert by.put(child["digest"], raw) == 201
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}).encode()
    digest = digest_of(index)
    assert by.head("manifests/mine") == 404
    assert by.put("mine", index, OCI_INDEX) == 201
    of_a_child, of_the_index = by.image(b"signature", children[1]), by.image(b"cosign")
    assert by.put(digest_of(of_a_child), of_a_child) == 201
    assert by.put(f"{digest.replace(':', '-')}.sig", of_the_index) == 201
    of_that = by.image(b"countersigned", described(of_a_child))
    assert by.put(digest_of(of_that), of_that) == 201
    assert by.put(f"{digest_of(of_that).replace(':', '-')}.att", by.image(b"of that")) == 201
    fallback = digest_of(of_a_child).replace(":", "-")
    assert by.put(fallback, index, OCI_INDEX) == 201
    for path in ("manifests/mine", f"manifests/{digest}", f"blobs/{digest_of(b'amd64' * 3)}"):
        assert by.head(path) == 200
        assert by.client.get(f"/v2/{NAME}/{path}").status_code == 401
    assert closed.push.get(f"/v2/{NAME}/manifests/mine").content == index
    by.put("mine", raws[0])
    assert closed.push.get(f"/v2/{NAME}/manifests/mine").content == raws[0]


@one_row
@pytest.mark.parametrize("actions", ["push", "pull,push"])
def test_a_token_that_pushes_one_image_tried_on_everything_else(
    closed: Registry, actions: str
) -> None:
    """Another's image stays as it is, and is neither read nor referred to; nothing is deleted."""
    other = publish(closed, NAME, "other", b"other")
    elsewhere = publish(closed, "quay.io/org/secret", "mine", b"elsewhere")
    tags = closed.push.get(f"/v2/{NAME}/tags/list").json()
    by = pusher(closed, f"image:{NAME}:mine:{actions}")
    mine = by.image(b"mine")
    assert by.put("mine", mine) == 201
    token = by.client.headers["Authorization"].partition(" ")[2]
    own = [
        f"manifests/{digest_of(mine)}",
        "manifests/mine",
        *(f"blobs/{x}" for x in blobs_of(mine)),
    ]
    assert {by.client.get(f"/v2/{NAME}/{one}").status_code for one in own} == (
        {200} if "pull" in actions else {401}
    )
    for path in other.parts:
        assert by.client.get(f"/v2/{NAME}/{path}").status_code == 401, path
    # That a digest is there is what a client asks that need not send it; tags are others'.
    asked = {path: by.head(path) for path in other.parts}
    by_digest = {path for path in other.parts if "/sha256:" in path and "referrers" not in path}
    assert {path for path, status in asked.items() if status == 200} == by_digest
    assert set(asked.values()) == {200, 401}
    assert statuses(closed, token, "quay.io/org/secret", elsewhere.parts + own) == {401}
    assert statuses(closed, token, NAME, ["tags/list", f"referrers/{other.digest}"]) == {401}
    cosign = other.digest.replace(":", "-")
    for tag in (
        "other",
        "new",
        "latest",
        cosign,
        f"{cosign}.sig",
        f"{cosign}.att",
        f"{cosign}.sbom",
    ):
        assert by.put(tag, mine) == 401, tag
        assert by.put("mine", mine, tag=tag) == 401, tag
        assert by.put(digest_of(mine), mine, tag=tag) == 401, tag
    refers = by.image(b"refers", {**described(mine), "digest": other.digest})
    assert by.put(digest_of(refers), refers) == 403
    assert by.put("mine", refers) == 403
    theirs = "/v2/quay.io/org/secret"
    for method, path in (
        *(("DELETE", f"/v2/{NAME}/manifests/{one}") for one in ("mine", "other")),
        *(("DELETE", f"/v2/{NAME}/manifests/{one}") for one in (digest_of(mine), other.digest)),
        *(("DELETE", f"/v2/{NAME}/blobs/{one}") for one in blobs_of(mine)),
        ("POST", f"{theirs}/blobs/uploads/"),
        ("PUT", f"{theirs}/manifests/mine"),
        ("PUT", f"{theirs}/manifests/{digest_of(mine)}"),
        ("GET", "/v2/_catalog"),
        ("GET", "/"),
        ("GET", f"/repositories/{NAME}"),
        ("PUT", f"/overlay/{NAME}"),
    ):
        refused = by.client.request(method, path, content=mine)
        assert refused.status_code == 401, (method, path, refused.text)
    assert by.client.get("/token", params={"scope": f"repository:{NAME}:push"}).status_code == 401
    assert closed.push.get(f"/v2/{NAME}/tags/list").json()["tags"] == sorted(
        [*tags["tags"], "mine"]
    )
    assert statuses_of(closed, NAME, other.parts) == {200}
    assert closed.push.get(f"/v2/{NAME}/manifests/mine").content == mine


def statuses_of(registry: Registry, name: str, paths: list[str]) -> set[int]:
    """Return how GET is answered to the user."""
    return {registry.push.get(f"/v2/{name}/{path}").status_code for path in paths}


@one_row
def test_a_token_that_pushes_mounts_nothing_that_it_may_not_read(closed: Registry) -> None:
    """A mount shows the content; an upload begins instead, of which nothing is known."""
    closed.push_image("quay.io/org/secret", "v1", b"secret")
    layer = digest_of(b"secret" * 10)
    by = pusher(closed, f"image:{NAME}:mine:push", "image:quay.io/org/another:mine:push")
    for query in ({"mount": layer, "from": "quay.io/org/secret"}, {"mount": layer}):
        begun = by.client.post(f"/v2/{NAME}/blobs/uploads/", params=query)
        assert begun.status_code == 202
        assert by.head(f"blobs/{layer}") == 404
        location = begun.headers["location"]
        moved = location.replace(NAME, "quay.io/org/another")
        assert by.client.get(moved).status_code == 404
        assert by.client.patch(location.replace(NAME, "org/x"), content=b"x").status_code == 401
        assert by.client.delete(location).status_code == 204
        assert by.client.get(location).status_code == 404


@one_row
def test_a_token_pushes_no_more_than_the_rules(harness: Harness) -> None:
    """Who may not push a repository gets no token to, and loses one when that right ends."""
    rules = [
        {"users": [USER], "actions": ["pull"], "repositories": ["**"]},
        {"users": [USER], "actions": ["push"], "repositories": ["quay.io/open/**"]},
    ]
    (harness.folder / "token.key").write_bytes(KEY)
    registry = harness.start(auth={"token_key": "token.key", "rules": rules})
    scopes = [f"image:{name}:v1:pull,push" for name in ("quay.io/open/app", NAME)]
    answer = ask(registry, *scopes).json()
    assert answer["scope"] == f"{scopes[0]} image:{NAME}:v1:pull"
    forged = {
        **jwt.decode(answer["token"], options={"verify_signature": False}),
        "access": [{"type": "image", "name": f"{NAME}:v1", "actions": ["push"]}],
    }
    registry.anonymous.headers["Authorization"] = f"Bearer {jwt.encode(forged, KEY, 'HS256')}"
    assert registry.anonymous.post(f"/v2/{NAME}/blobs/uploads/").status_code == 401
    assert registry.anonymous.head(f"/v2/{NAME}/manifests/v1").status_code == 401


@one_row
def test_a_token_that_pushes_does_so_where_that_is_possible(closed: Registry) -> None:
    """Not at the endpoint to pull, where it gets what everybody does."""
    by = pusher(closed, f"image:{NAME}:mine:push")
    headers = {"Authorization": by.client.headers["Authorization"]}
    closed.pull.headers.update(headers)
    assert closed.pull.post(f"/v2/{NAME}/blobs/uploads/").status_code == 405
    assert closed.pull.head(f"/v2/{NAME}/manifests/mine").status_code == 401
