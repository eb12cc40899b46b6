# SPDX-License-Identifier: Apache-2.0
"""Registries as they are found: what they say in other ways than most is understood."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from buildset_registry.transfer.session import RegistryLogin

from tests.unit.transfer.conftest import Copy
from tests.unit.transfer.fake_registry import (
    CONFIG,
    INDEX,
    LAYER,
    MANIFEST,
    FakeRegistry,
    Handler,
    descriptor,
    digest_of,
    half_a_body,
    serving,
    status,
)

#: More than comes with the headers of an answer.
LARGE = bytes(range(256)) * (5 << 12)


class Closing(Handler):
    """Says so, and closes after each answer."""

    def answer(
        self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> bool:
        return super().answer(status, {**(headers or {}), "Connection": "close"}, body)


class Old(Handler):
    """Speaks HTTP/1.0."""

    protocol_version = "HTTP/1.0"


class Unmeasured(Handler):
    """Tells no length: the end of a connection is that of the answer."""

    protocol_version = "HTTP/1.0"

    def send_header(self, keyword: str, value: str) -> None:
        if keyword != "Content-Length":
            super().send_header(keyword, value)


@pytest.mark.parametrize("handles", [Closing, Old, Unmeasured])
def test_a_connection_may_end_with_each_answer(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, handles: type[Handler]
) -> None:
    """At either end; a blob that is still on its way then arrives whole."""
    layers = (LARGE, b"a" * 3000, b"")
    with serving(handles) as short:
        for one in (source, short):
            raw = one.add_image("app", "v1", layers=layers)
        assert not copy(short.image("app:v1"), destination.image("app:v1")).failed
        assert not copy(source.image("app:v1"), short.image("copy:v1")).failed
        for held, name in ((destination, "app"), (short, "copy")):
            assert held.manifests[name]["v1"][1] == raw
            assert held.blobs[name][digest_of(LARGE)] == LARGE


def packed(content: bytes, **headers: str) -> Any:
    """Answer with what was packed, though nobody asked for that."""

    def act(handler: Handler) -> bool:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        packed = gzip.compress(content, mtime=0)
        return handler.answer(200, {**named, "Content-Encoding": "gzip"}, packed)

    return act


def test_documents_that_come_packed_are_unpacked(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """Manifests and tokens; some proxies pack all JSON. The digest is that of what was packed."""
    raw = source.add_image("app", "v1")
    source.token_uses = 1000
    source.tokens["packed"] = 1000
    source.fail("GET", "^/token", packed(b'{"token": "packed"}'), times=9)
    kind = {"Content_Type": MANIFEST, "Docker_Content_Digest": digest_of(raw)}
    source.fail("GET", "/manifests/v1", packed(raw, **kind), times=9)
    assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert destination.manifests["app"]["v1"] == (MANIFEST, raw)


def test_a_cache_of_buildkit_is_an_index_of_blobs(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, tmp_path: Any
) -> None:
    """Nobody asks for them as manifests; from a folder, too."""
    layer, config = source.add_blob("app", LARGE), source.add_blob("app", b"{}")
    listed = [
        descriptor(layer, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        descriptor(layer, f"{LAYER}+zstd"),
        descriptor(config, "application/vnd.buildkit.cacheconfig.v0"),
    ]
    tree = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
    raw = source.add_manifest("app", tree, "cache")
    assert not copy(source.image("app:cache"), f"oci:{tmp_path}/o").failed
    assert not copy(f"oci:{tmp_path}/o:cache", destination.image("app")).failed
    assert destination.manifests["app"]["cache"][1] == raw
    assert {digest_of(layer), digest_of(config)} == set(destination.blobs["app"])
    assert not source.asked("GET", f"manifests/{digest_of(layer)}")


def test_sizes_that_an_index_tells_are_of_no_account(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """Manifests are known by their digests: 0, a wrong size and none are published all the same."""
    children = [source.add_image("app", layers=(name,)) for name in (b"1", b"2", b"3")]
    listed = [
        descriptor(one, MANIFEST) | {"size": size}
        for one, size in zip(children, (0, 7, None), strict=True)
    ]
    tree = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
    raw = source.add_manifest("app", tree, "v1")
    assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert destination.manifests["app"]["v1"][1] == raw
    assert {digest_of(one) for one in children} < set(destination.manifests["app"])


def test_a_layer_of_another_size_than_told_is_said_to_be(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """Clients refuse such an image; nothing is wrong with the bytes."""
    layer, config = source.add_blob("app", b"layer"), source.add_blob("app", b"{}")
    listed = [descriptor(layer, LAYER) | {"size": 2}]
    tree = {"mediaType": MANIFEST, "config": descriptor(config, CONFIG), "layers": listed}
    source.add_manifest("app", tree, "v1")
    (failed,) = copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert f"{digest_of(layer)} is larger at the source than the 2 bytes" in failed.error
    assert not destination.manifests["app"]


@pytest.mark.parametrize("code", [400, 404, 405, 406, 501])
def test_a_registry_without_the_api_of_referrers_may_say_so_in_many_ways(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, code: int
) -> None:
    """Then what refers to an image is listed by a tag."""
    raw = source.add_image("app", "v1")
    signature = source.add_image("app", layers=(b"s",), subject=descriptor(raw, MANIFEST))
    tree = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [descriptor(signature, MANIFEST)],
    }
    source.add_manifest("app", tree, digest_of(raw).replace(":", "-"))
    source.fail("GET", "/referrers/", status(code), times=99)
    assert not copy(source.image("app:v1"), destination.image("app:v1"), referrers=True).failed
    assert digest_of(signature) in destination.manifests["app"]


def test_a_destination_that_answers_no_head_is_sent_everything(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """Whether a blob is there, it does not tell."""
    raw = source.add_image("app", "v1")
    destination.fail("HEAD", "/v2/", status(405), times=99)
    assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert destination.manifests["app"]["v1"][1] == raw


def cut(handler: Handler) -> bool:
    """Announce a document, send the beginning of it, and leave."""
    handler.send_response(200)
    handler.send_header("Content-Type", INDEX)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{}")
    handler.close_connection = True
    return True


@pytest.mark.parametrize("what", ["manifests/v1", "referrers", "config", "token"])
def test_a_document_that_ends_early_is_asked_for_again(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, what: str
) -> None:
    """As a blob is."""
    raw = source.add_image("app", "v1")
    source.token_uses = 999
    if what == "config":
        source.fail("GET", json.loads(raw)["config"]["digest"], half_a_body)
    else:
        source.fail("GET", what, cut)
    report = copy(source.image("app:v1"), destination.image("app:v1"), referrers=True)
    assert [one.error for one in report.images] == [""]
    assert report.images[0].platforms == ["linux/amd64"]
    assert destination.manifests["app"]["v1"][1] == raw


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("app has no manifest v1; it was removed on 2026-01-02 by rule 1", "removed on 2026-01-02"),
        ("manifest unknown", ""),
        ("", ""),
    ],
)
def test_what_a_registry_says_of_an_image_that_it_lacks_is_passed_on(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, message: str, said: str
) -> None:
    """When it was removed, say; that it is unknown is no news."""
    told = json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": message}]}).encode()
    source.fail("GET", "manifests", lambda one: one.answer(404, {}, told), times=99)
    (failed,) = copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert said in failed.error
    assert ("and says" in failed.error) is bool(said)
    assert failed.error.endswith("; push the image first")


def test_the_scope_of_another_request_is_not_asked_for(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """ghcr.io names an image at /v2/ that nobody has, and gives no token for two images."""
    for name in ("one", "two"):
        source.add_image(name, "v1", layers=(name.encode(),), architecture=name)

    def closed(scope: str) -> Callable[[Handler], bool]:
        def act(handler: Handler) -> bool:
            if "Authorization" in handler.headers:
                return False
            realm = f'Bearer realm="{destination.url}/token",service="x",scope="{scope}"'
            handler.read()
            return handler.answer(401, {"WWW-Authenticate": realm})

        return act

    destination.fail("GET", "^/v2/$", closed("repository:user/image:pull"), times=99)
    for name in ("one", "two"):
        for method in ("POST", "PUT"):
            named = closed(f"repository:{name}:pull,push")
            destination.fail(method, f"^/v2/{name}/", named, times=99)
    images = (source.image("one:v1"), source.image("two:v1"))
    login = RegistryLogin("user", "pass")
    report = copy(*images, f"{destination.url}/", login=login)
    assert [one.error for one in report.images] == ["", ""]
    assert {tuple(one) for one in destination.scopes} == {
        ("repository:one:pull,push",),
        ("repository:two:pull,push",),
    }


@pytest.mark.parametrize(
    "answer",
    [
        {"expires_in": 0},
        {"expires_in": None},
        {"expires_in": "300"},
        {"expires_in": 60, "issued_at": "2001-01-01T00:00:00Z"},
        {"token": "", "access_token": "known"},
    ],
    ids=json.dumps,
)
def test_a_token_is_used_whatever_is_said_of_its_time(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, answer: dict[str, object]
) -> None:
    """The clock of one of them may be wrong; a realm may have a query of its own."""
    source.add_image("app", "v1", layers=(LARGE, b"a", b"b"))
    source.token_uses, source.tokens["known"] = 1, 1000
    given = json.dumps({"token": "known", **answer}).encode()
    source.fail("GET", "^/token", lambda handler: handler.answer(200, body=given), times=99)
    challenge = {"WWW_Authenticate": f'Bearer realm="{source.url}/token?account=a",service="b,c"'}
    source.fail("GET", "manifests", status(401, **challenge))
    assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert source.asked("GET", "^/token.*account=a&service=b,c&scope=repository:app:pull$")
