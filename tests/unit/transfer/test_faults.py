# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on the way is tried again where that helps, and never becomes a wrong image."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from buildset_registry.oci.manifest import Manifest
from buildset_registry.transfer import content
from buildset_registry.transfer.errors import TransferError
from buildset_registry.transfer.remote import RemoteRepository
from buildset_registry.transfer.session import RegistryLogin

from tests.unit.transfer.conftest import Copy
from tests.unit.transfer.fake_registry import (
    INDEX,
    MANIFEST,
    FakeRegistry,
    Handler,
    descriptor,
    digest_of,
    half_a_body,
    status,
    take_half,
    wrong_bytes,
)

#: Larger than what is sent from memory.
LARGE = bytes(range(256)) * (5 << 12)


@pytest.fixture
def large(source: FakeRegistry) -> str:
    """An image with a layer that is sent as a stream; returns the layer's digest."""
    source.add_image("app", "v1", layers=(LARGE,))
    return digest_of(LARGE)


def arrived(destination: FakeRegistry) -> bool:
    """Tell whether the image is there with every byte."""
    held = destination.blobs["app"].get(digest_of(LARGE))
    return "v1" in destination.manifests["app"] and held == LARGE


def test_half_a_body_is_gone_on_with_from_where_it_ended(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, large: str
) -> None:
    """By a Range at the source; the destination notices nothing."""
    source.fail("GET", large, half_a_body, times=3)
    report = copy(source.image("app:v1"), destination.image("app:v1"))
    assert not report.failed
    assert arrived(destination)
    assert len(destination.asked("PATCH")) == 1
    ranges = [one["Range"] for one in source.headers if "Range" in one]
    half = len(LARGE) // 2
    assert ranges == [f"bytes={half}-", f"bytes={half * 3 // 2}-", f"bytes={half * 7 // 4}-"]


def test_a_source_that_breaks_for_ever_is_given_up(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, large: str
) -> None:
    """After some tries without a byte in between; nothing is tagged."""
    source.fail("GET", large, status(502), times=999)
    (failed,) = copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert f"answers 502 to GET /v2/app/blobs/{large}" in failed.error
    assert not destination.manifests["app"]


@pytest.mark.parametrize("layer", [LARGE, b"small"], ids=["stream", "from memory"])
def test_wrong_bytes_are_never_tagged(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, layer: bytes
) -> None:
    """Nor is the upload finished: it is cancelled."""
    source.add_image("app", "v1", layers=(layer,))
    source.fail("GET", digest_of(layer), wrong_bytes, times=99)
    (failed,) = copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert "other bytes than" in failed.error
    assert not destination.manifests["app"]
    assert digest_of(layer) not in destination.blobs["app"]
    assert not destination.asked("PUT", f"digest={digest_of(layer)}")
    assert not destination.uploads


def test_wrong_bytes_are_refused_by_who_verifies_them(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, large: str
) -> None:
    """A destination that says so is left to hash; what it refuses is hashed on its second way."""
    destination.verifies = True
    source.fail("GET", large, wrong_bytes, times=99)
    (failed,) = copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert "other bytes than" in failed.error
    assert not destination.manifests["app"]
    assert large not in destination.blobs["app"]
    assert not destination.uploads
    assert len(destination.asked("PUT", f"digest={large}")) == 1
    assert len(source.asked("GET", large)) == 2


def test_wrong_bytes_are_refused_after_a_break(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, large: str
) -> None:
    """Of what goes on in the middle nobody but the destination has seen everything."""
    destination.verifies = True
    destination.fail("PATCH", "uploads", take_half)
    source.fail("GET", large, wrong_bytes, times=99)
    (failed,) = copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert "other bytes than" in failed.error
    assert not destination.manifests["app"]
    assert large not in destination.blobs["app"]


def test_bytes_that_were_wrong_once_are_sent_again(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, large: str
) -> None:
    """A proxy on the way may have changed them."""
    destination.verifies = True
    source.fail("GET", large, wrong_bytes)
    report = copy(source.image("app:v1"), destination.image("app:v1"))
    assert not report.failed
    assert arrived(destination)


@pytest.mark.parametrize("layer", [LARGE, b"small"], ids=["stream", "from memory"])
@pytest.mark.parametrize("verifies", [True, False])
def test_each_byte_is_hashed_once_by_who_is_to(
    source: FakeRegistry,
    destination: FakeRegistry,
    copy: Copy,
    monkeypatch: pytest.MonkeyPatch,
    layer: bytes,
    verifies: bool,
) -> None:
    """By the copy, unless the destination does it; what is sent from memory by both."""
    hashed: list[int] = []

    class Counting:
        """A hash that tells how much it is of."""

        def __init__(self, algorithm: str) -> None:
            self._state = hashlib.new(algorithm)
            self.hexdigest = self._state.hexdigest

        def update(self, piece: bytes) -> None:
            hashed.append(len(piece))
            self._state.update(piece)

    monkeypatch.setattr(content, "hasher", Counting)
    destination.verifies = verifies
    raw = source.add_image("app", "v1", layers=(layer,))
    assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    config = json.loads(raw)["config"]["size"]
    assert sum(hashed) == config + (0 if verifies and layer is LARGE else len(layer))


def test_wrong_bytes_leave_nothing_in_a_folder(
    source: FakeRegistry, copy: Copy, large: str, tmp_path: Path
) -> None:
    """Not even in part."""
    source.fail("GET", large, wrong_bytes, times=99)
    assert copy(source.image("app:v1"), f"oci:{tmp_path}/o").failed
    assert not [one for one in (tmp_path / "o/blobs/sha256").iterdir() if "part" in one.name]
    assert '"manifests": []' in (tmp_path / "o/index.json").read_text()


@pytest.mark.parametrize("wrong", [False, True])
def test_what_another_copy_left_wrong_in_a_folder_is_brought_anew(
    source: FakeRegistry, copy: Copy, large: str, tmp_path: Path, wrong: bool
) -> None:
    """A machine that lost its power leaves zeros; a source that is wrong is still told."""
    name = large.partition(":")[2]
    blobs = tmp_path / "o/blobs/sha256"
    blobs.mkdir(parents=True)
    (tmp_path / "o/oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (blobs / f".{name}.part").write_bytes(bytes(1000))
    source.fail("GET", large, wrong_bytes, times=99 if wrong else 0)
    report = copy(source.image("app:v1"), f"oci:{tmp_path}/o")
    assert ("other bytes than" in report.images[0].error) is wrong
    assert (blobs / name).exists() is not wrong
    assert not [one for one in blobs.iterdir() if "part" in one.name]


@pytest.mark.parametrize("name", [".oci-layout", ".index.json"])
def test_what_a_copy_that_was_killed_was_writing_is_in_nobody_s_way(
    source: FakeRegistry, copy: Copy, large: str, tmp_path: Path, name: str
) -> None:
    """The folder is no stranger's; nothing of it stays there."""
    (tmp_path / "o").mkdir()
    (tmp_path / f"o/{name}.140231.new").write_text("{")
    report = copy(source.image("app:v1"), f"oci:{tmp_path}/o")
    assert [one.error for one in report.images] == [""]
    assert not list((tmp_path / "o").rglob(".*"))
    assert (tmp_path / "o/index.json").exists()


def test_a_destination_that_breaks_is_asked_how_much_it_has(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, large: str
) -> None:
    """And sent the rest."""
    destination.fail("PATCH", "uploads", take_half)
    report = copy(source.image("app:v1"), destination.image("app:v1"))
    assert not report.failed
    assert arrived(destination)
    assert f"bytes={len(LARGE) // 2}-" in [one.get("Range") for one in source.headers]


def test_an_upload_that_is_lost_is_begun_anew(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, large: str
) -> None:
    """A registry that was started again may know nothing of it."""

    def lose(handler: Handler) -> bool:
        handler.registry.uploads.clear()
        handler.read()
        return handler.answer(404)

    destination.fail("PATCH", "uploads", lose)
    assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert arrived(destination)


@pytest.mark.parametrize("layer", [LARGE, b"small"], ids=["stream", "from memory"])
@pytest.mark.parametrize("code", [429, 500, 502, 503])
def test_a_registry_that_is_busy_is_asked_again(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, layer: bytes, code: int
) -> None:
    """Each request of a copy may meet it."""
    source.add_image("app", "v1", layers=(layer,))
    for registry in (source, destination):
        for method in ("GET", "HEAD", "POST", "PATCH", "PUT"):
            registry.fail(method, "/v2/", status(code, Retry_After="1"))
    assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert destination.blobs["app"][digest_of(layer)] == layer


def test_a_body_that_is_too_large_for_the_way_goes_in_chunks(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, large: str
) -> None:
    """Smaller and smaller ones, until they pass."""
    destination.largest_body = 3 << 20
    report = copy(source.image("app:v1"), destination.image("app:v1"))
    assert not report.failed
    assert arrived(destination)
    ranges = [one["Content-Range"] for one in destination.headers if "Content-Range" in one]
    assert len(ranges) >= len(LARGE) // (3 << 20)


def test_a_small_body_that_is_too_large_goes_in_chunks(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """The limit of nginx is 1 MiB where nobody has thought of it."""
    layer = LARGE[: 3 << 19]
    source.add_image("app", "v1", layers=(layer,))
    destination.largest_body = 1 << 20
    assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert destination.blobs["app"][digest_of(layer)] == layer


def test_a_limit_below_the_smallest_chunk_is_told(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, large: str
) -> None:
    """Rather than tried for ever."""
    destination.largest_body = 1000
    (failed,) = copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert "answers 413 to P" in failed.error


def test_a_token_that_ends_in_the_middle_is_renewed(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, large: str
) -> None:
    """Also where it was refused in the middle of a blob."""
    source.token_uses, destination.token_uses = 999, 999

    def end(handler: Handler) -> bool:
        for token in handler.registry.tokens:
            handler.registry.tokens[token] = 0
        return False

    source.fail("GET", large, end)
    for method in ("PATCH", "PUT"):
        destination.fail(method, "uploads", end)
    destination.fail("PUT", "manifests", end)
    login = RegistryLogin("user", "secret")
    # One after the other: a token that ends twice under one request is a refusal.
    single = {"small_at_once": 1, "large_at_once": 1}
    report = copy(source.image("app:v1"), destination.image("app:v1"), login=login, **single)
    assert not report.failed
    assert arrived(destination)
    assert len(destination.tokens) > 2
    assert len(source.tokens) > 1
    assert ["repository:app:pull,push"] in destination.scopes
    assert {tuple(one) for one in source.scopes} == {("repository:app:pull",)}


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_a_login_that_is_refused_is_not_sent_again_and_again(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, scheme: str
) -> None:
    """Some registries lock an account after a few wrong passwords."""
    layers = tuple(f"{number}".encode() for number in range(20))
    source.add_image("app", "v1", layers=layers)
    login = RegistryLogin("user", "wrong")
    realm = f'Bearer realm="{destination.url}/token"' if scheme == "Bearer" else 'Basic realm="x"'
    destination.fail("GET", "^/token", status(401), times=999)
    for method in ("HEAD", "GET", "POST"):
        destination.fail(method, "^/v2/", status(401, WWW_Authenticate=realm), times=999)
    (failed,) = copy(source.image("app:v1"), destination.image("app:v1"), login=login).failed
    assert "answers 401 to POST" in failed.error
    assert "other credentials" in failed.error
    sent = [one for one in destination.headers if one.get("Authorization") == login.header]
    assert 1 <= len(sent) <= 3


def test_a_source_that_deletes_meanwhile_is_told_in_one_line(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, large: str
) -> None:
    """The manifest is there, its blob is not."""
    del source.blobs["app"][large]
    (failed,) = copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert failed.error.endswith(f"/app has no blob {large} any more; push the image again")
    assert not destination.manifests["app"]


def test_a_manifest_that_is_not_what_was_asked_for_is_refused(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """By tag, too, where the registry names the digest."""
    raw = source.add_image("app", "v1")
    source.manifests["app"][digest_of(raw)] = ("", raw + b" ")
    (failed,) = copy(source.image(f"app@{digest_of(raw)}"), destination.image("app:v1")).failed
    assert "is not what its digest" in failed.error


def test_a_part_that_the_source_lacks_stops_the_copy_before_it_begins(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """No half of an image is left behind."""
    raw = source.add_image("app")
    source.add_index("app", "v1", {"linux/amd64": raw})
    del source.manifests["app"][digest_of(raw)]
    (failed,) = copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert f"lists {digest_of(raw)} and does not have it" in failed.error
    assert not destination.blobs["app"]


def test_a_copy_that_is_run_again_goes_on_with_its_upload(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, tmp_path: Path
) -> None:
    """Its address was noted, for blobs that are worth it; afterwards nothing is left of that."""
    layer = b"0123456789abcdef" * (5 << 18)
    source.add_image("app", "v1", layers=(layer,))
    destination.fail("PATCH", "uploads", take_half)
    destination.fail("GET", "uploads", status(403))
    destination.fail("POST", "uploads", lambda one: False, times=2)
    destination.fail("POST", "uploads", status(403), times=9)
    words = (source.image("app:v1"), destination.image("app:v1"))
    assert copy(*words, journal=tmp_path).failed
    (noted,) = tmp_path.iterdir()
    assert noted.stat().st_mode & 0o777 == 0o600
    destination.faults.clear()
    report = copy(*words, journal=tmp_path)
    assert not report.failed
    assert report.images[0].moved <= len(layer) // 2
    assert destination.blobs["app"][digest_of(layer)] == layer
    assert not list(tmp_path.iterdir())


def test_what_another_copy_sent_wrong_is_sent_again(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, tmp_path: Path
) -> None:
    """The destination verifies what this one has not seen."""
    layer = b"0123456789abcdef" * (5 << 18)
    source.add_image("app", "v1", layers=(layer,))

    def garbage(handler: Handler) -> bool:
        for held in handler.registry.uploads.values():
            held[:] = b"x" * 100
        return False

    destination.fail("GET", "uploads", status(403))
    destination.fail("PATCH", "uploads", take_half)
    destination.fail("POST", "uploads", lambda one: False, times=2)
    destination.fail("POST", "uploads", status(403), times=9)
    words = (source.image("app:v1"), destination.image("app:v1"))
    assert copy(*words, journal=tmp_path).failed
    destination.faults.clear()
    destination.fail("GET", "uploads", garbage)
    assert not copy(*words, journal=tmp_path).failed
    assert destination.blobs["app"][digest_of(layer)] == layer


def test_the_answer_to_a_body_may_come_before_its_end(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, large: str
) -> None:
    """As nginx answers 413 from the length alone, and reads no further."""

    def refuse(handler: Handler) -> bool:
        handler.close_connection = True
        return handler.answer(413)

    destination.fail("PATCH", "uploads", refuse)
    assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert arrived(destination)


def test_no_secret_is_in_an_error(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """Nor the signature in an address."""
    source.add_image("app", "v1")
    destination.fail("POST", "uploads", status(202, Location="/v2/app/blobs/uploads/9?sig=secret"))
    destination.fail("PUT", "uploads", status(500), times=99)
    login = RegistryLogin("user", "secret")
    report = copy(source.image("app:v1"), destination.image("app:v1"), login=login)
    assert report.failed
    assert "secret" not in str(report)
    assert "secret" not in repr(login)


@pytest.mark.parametrize("token", ["secret\r\nX: y", "sécret\u20ac"])
def test_a_login_that_no_header_can_have_is_told(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, token: str
) -> None:
    """Without its words, in which it is."""
    source.add_image("app", "v1")
    login = RegistryLogin(token=token)
    (failed,) = copy(source.image("app:v1"), destination.image("app:v1"), login=login).failed
    assert "has characters that no header may have; log in again" in failed.error
    assert "cret" not in failed.error


def test_a_destination_that_hides_what_it_lacks_is_pushed_to(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, large: str
) -> None:
    """It is the push that tells whether one may."""
    destination.fail("HEAD", "/v2/", status(403), times=99)
    assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert arrived(destination)


def test_an_upload_that_leads_nowhere_is_told(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, large: str
) -> None:
    """In one line, for whatever a registry may send."""
    for location in ("http://[::1", "https://", "//", "mailto:x", "http://169.254.169.254/x"):
        destination.faults.clear()
        destination.fail("POST", "uploads", status(202, Location=location), times=99)
        (failed,) = copy(source.image("app:v1"), destination.image("app:v1")).failed
        assert failed.error
        assert "\n" not in failed.error


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff", b'{"layers": 1}', b"[" * 5000])
def test_a_manifest_that_is_none_is_copied_or_told(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, raw: bytes
) -> None:
    """Never a traceback: the destination has the last word on what is a manifest."""
    source.manifests["app"]["v1"] = ("application/example", raw)
    destination.fail("PUT", "manifests", status(400), times=9)
    (failed,) = copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert "\n" not in failed.error


@pytest.mark.parametrize("raw", [b"", b"[]", b"not yet"])
def test_what_is_no_object_is_not_taken_for_an_image(
    source: FakeRegistry, copy: Copy, tmp_path: Path, raw: bytes
) -> None:
    """A folder has no word on what is a manifest."""
    source.manifests["app"]["v1"] = ("", raw)
    (failed,) = copy(source.image("app:v1"), f"oci:{tmp_path}/o").failed
    assert "is no manifest, which is an object of JSON; check the name" in failed.error
    assert not (tmp_path / "o").exists()


def web_page(handler: Handler) -> bool:
    """Answer as a portal does that wants a login, whatever was asked."""
    handler.read()
    return handler.answer(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>Log in")


def test_a_web_server_is_no_registry(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, tmp_path: Path
) -> None:
    """Nothing is kept of its pages, and nothing is believed that it does not say."""
    source.add_image("app", "v1")
    for method in ("HEAD", "GET", "POST", "PUT"):
        destination.fail(method, "", web_page, times=99)
    (failed,) = copy(destination.image("app:v1"), f"oci:{tmp_path}/o").failed
    assert "is a web page and no manifest; check the name" in failed.error
    assert not (tmp_path / "o").exists()
    destination.faults.clear()
    destination.fail("HEAD", "", status(200), times=99)
    destination.fail("PUT", "manifests", status(200), times=99)
    (failed,) = copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert "does not say that it has stored" in failed.error


def test_what_speaks_no_http_is_told(source: FakeRegistry, copy: Copy, tmp_path: Path) -> None:
    """Its own words are of no use."""

    def banner(handler: Handler) -> bool:
        handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")
        handler.close_connection = True
        return True

    source.fail("GET", "manifests", banner, times=99)
    (failed,) = copy(source.image("app:v1"), f"oci:{tmp_path}/o").failed
    assert "answers with what is not HTTP; check its port" in failed.error


@pytest.mark.parametrize("seconds", ["86400000", "9" * 400], ids=["days", "for ever"])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_a_stream_is_not_held_for_days_by_a_registry_that_says_so(
    source: FakeRegistry,
    destination: FakeRegistry,
    copy: Copy,
    large: str,
    method: str,
    seconds: str,
) -> None:
    """Neither by one that gives a blob nor by one that takes it; the reason is told."""
    end, path = (source, large) if method == "GET" else (destination, "uploads")
    end.fail(method, path, status(429, Retry_After=seconds), times=999)
    (failed,) = copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert f"answers 429 to {method}" in failed.error
    assert "a day or longer" in failed.error
    assert len(end.asked(method, path)) == 1


def deep_error(handler: Handler) -> bool:
    """Refuse, by JSON that no parser gets to the end of."""
    return handler.answer(403, {}, b"[" * 100_000)


#: Answers that no registry should give, by what is told of them.
SENSELESS = {
    "answers 403": deep_error,
    "no address": status(307, Location="/v2/\xe9?signature=secret"),
    "a..b": status(307, Location="http://a..b/?signature=secret"),
    "a b": status(307, Location="/v2/a b?signature=secret"),
}


@pytest.mark.parametrize("told", SENSELESS)
def test_a_senseless_answer_fails_its_image_alone(
    source: FakeRegistry, copy: Copy, tmp_path: Path, told: str
) -> None:
    """By one line, without what signs an address; the other image arrives."""
    source.add_image("app", "v1")
    source.add_image("app", "v2")
    source.fail("GET", "manifests/v1", SENSELESS[told], times=99)
    images = [source.image("app:v1"), source.image("app:v2")]
    report = copy(*images, f"oci:{tmp_path}/o")
    assert [one.source for one in report.failed] == [images[0]]
    assert told in report.failed[0].error
    assert "secret" not in report.failed[0].error


def test_a_least_chunk_without_an_end_is_none(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, large: str
) -> None:
    """Python refuses to read numbers of thousands of digits."""

    def begun(handler: Handler) -> bool:
        handler.registry.uploads["00000099"] = bytearray()
        place = {"Location": "/v2/app/blobs/uploads/00000099"}
        return handler.answer(202, {**place, "OCI-Chunk-Min-Length": "9" * 5000})

    destination.fail("POST", "uploads", begun)
    assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert arrived(destination)


def test_indexes_that_list_the_same_many_times_are_looked_at_once(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """There are more ways from the top to the image than anybody can walk."""
    raw, kind = source.add_image("app"), MANIFEST
    for _level in range(6):
        listed = [descriptor(raw, kind)] * 100
        tree = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
        raw, kind = source.add_manifest("app", tree, "v1"), INDEX
    assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert destination.manifests["app"]["v1"][1] == raw
    assert len(source.asked("GET", "manifests")) == 7


def test_manifests_are_not_held_without_end(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index may list thousands, each as large as a manifest may be."""
    monkeypatch.setattr("buildset_registry.transfer.plan._MOST_BYTES", 64 * 1024)
    large = [source.add_image("app", annotations={"a": str(n) * 30_000}) for n in range(3)]
    source.add_index("app", "v1", {f"linux/{n}": raw for n, raw in enumerate(large)})
    (failed,) = copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert "more than 65,536 bytes of manifests" in failed.error
    assert not destination.manifests["app"]


def test_a_list_of_referrers_without_an_end_is_told(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of it would be a copy without a signature, of which nobody knows."""
    monkeypatch.setattr("buildset_registry.transfer.remote._MOST_PAGES", 5)
    source.add_image("app", "v1")

    def page(handler: Handler) -> bool:
        body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
        again = {"Content-Type": INDEX, "Link": f'<{handler.path}>; rel="next"'}
        return handler.answer(200, again, body)

    source.fail("GET", "referrers", page, times=999)
    (failed,) = copy(source.image("app:v1"), destination.image("app:v1"), referrers=True).failed
    assert "without an end" in failed.error
    assert "v1" not in destination.manifests["app"]


def test_a_link_in_a_folder_does_not_lead_a_copy_out_of_it(
    source: FakeRegistry, copy: Copy, large: str, tmp_path: Path
) -> None:
    """A folder may be a stranger's, and the name of what waits for the next copy is known."""
    outside = tmp_path / "outside"
    outside.write_text("mine")
    blobs = tmp_path / "o/blobs/sha256"
    blobs.mkdir(parents=True)
    (tmp_path / "o/oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (blobs / f".{large.partition(':')[2]}.part").symlink_to(outside)
    (failed,) = copy(source.image("app:v1"), f"oci:{tmp_path}/o").failed
    assert f".{large.partition(':')[2]}.part" in failed.error
    assert outside.read_text() == "mine"


def test_a_referrer_that_was_put_and_not_listed_is_listed_by_the_next_copy(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """The first copy was killed between the two, at a registry without the referrers API."""
    destination.referrers_api = False
    image = source.add_image("app", "v1")
    signature = source.add_image("app", subject=descriptor(image, MANIFEST))
    digest = digest_of(signature)
    destination.blobs["app"] |= source.blobs["app"]
    for raw in (image, signature):
        destination.manifests["app"][digest_of(raw)] = (MANIFEST, raw)
    assert not copy(source.image("app:v1"), destination.image("app:v1"), referrers=True).failed
    listed = destination.manifests["app"][digest_of(image).replace(":", "-")][1]
    assert [one["digest"] for one in json.loads(listed)["manifests"]] == [digest]


@pytest.mark.parametrize(
    "begin",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Header: ",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=["body", "header", "continue"],
)
def test_an_answer_that_drips_is_given_up(
    source: FakeRegistry,
    copy: Copy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    begin: bytes,
) -> None:
    """Each byte comes in time, and the last one never does."""
    monkeypatch.setattr("buildset_registry.transfer.connections.ANSWER_SECONDS", 0.1)
    source.add_image("app", "v1")

    def drip(handler: Handler) -> bool:
        handler.close_connection = True
        with suppress(OSError):
            while True:
                handler.wfile.write(begin if begin.endswith(b"Continue\r\n\r\n") else b" ")
                time.sleep(0.01)
        return True

    def act(handler: Handler) -> bool:
        handler.wfile.write(begin)
        return drip(handler)

    source.fail("GET", "manifests", act, times=99)
    (failed,) = copy(source.image("app:v1"), f"oci:{tmp_path}/o").failed
    assert "its answer takes too long" in failed.error


@pytest.mark.parametrize("where", ["index.json", "manifest", "layer"])
def test_a_pipe_in_a_folder_is_not_waited_at(
    source: FakeRegistry, copy: Copy, large: str, tmp_path: Path, where: str
) -> None:
    """Nobody writes to it."""
    assert not copy(source.image("app:v1"), f"oci:{tmp_path}/o").failed
    (listed,) = json.loads((tmp_path / "o/index.json").read_text())["manifests"]
    digest = {"manifest": listed["digest"], "layer": large}.get(where)
    file = digest.replace(":", "/") if digest else ""
    path = tmp_path / "o" / (f"blobs/{file}" if file else where)
    path.unlink()
    os.mkfifo(path)
    (failed,) = copy(f"oci:{tmp_path}/o", f"oci:{tmp_path}/p:v1").failed
    assert "it is no regular file" in failed.error


def test_words_of_a_stranger_s_have_no_control_characters(
    source: FakeRegistry, copy: Copy, tmp_path: Path
) -> None:
    """A terminal would obey them, and a log have lines of theirs."""
    words = {"code": "NO", "message": "\x1b[2Jgone\x00\nbuildset-registry: ok"}
    told = json.dumps({"errors": [words]})
    source.fail("GET", "manifests", lambda handler: handler.answer(403, {}, told.encode()))
    (failed,) = copy(source.image("app:v1"), f"oci:{tmp_path}/o").failed
    assert "NO: " in failed.error
    assert failed.error.isprintable()


def test_an_image_that_failed_is_told_when_nothing_of_it_is_put_any_more(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two children one has failed while the other one is still on its way."""
    children = {
        f"linux/{name}": source.add_image("app", layers=(name.encode(),), architecture=name)
        for name in ("amd64", "arm64")
    }
    source.add_index("app", "v1", children)
    turns, failed, ended = itertools.count(), threading.Event(), threading.Event()

    def put(_destination: object, manifest: Manifest, _name: object) -> None:
        assert not manifest.manifests
        if next(turns):
            failed.set()
            raise TransferError("the first to fail")
        failed.wait(60)
        time.sleep(0.1)
        ended.set()

    monkeypatch.setattr(RemoteRepository, "put_manifest", put)
    report = copy(source.image("app:v1"), destination.image("app:v1"))
    assert [one.error for one in report.images] == ["the first to fail"]
    assert ended.is_set()
