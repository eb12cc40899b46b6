# SPDX-License-Identifier: Apache-2.0
"""An upload whose end is not known, or that was refused, becomes the blob all the same, once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from buildset_registry.transfer.ends import Ends
from buildset_registry.transfer.tries import LONGEST_PAUSE
from buildset_registry.transfer.uploads import UploadJournal

from tests.unit.transfer.conftest import Copy
from tests.unit.transfer.fake_registry import (
    CONFIG,
    FakeRegistry,
    Handler,
    descriptor,
    digest_of,
    half_a_body,
    serving,
    status,
    take_half,
)

#: Larger than what is sent from memory.
LARGE = bytes(range(256)) * (5 << 12)
#: Large enough for its upload to be noted.
NOTED = b"0123456789abcdef" * (5 << 18)


def name_of(handler: Handler) -> str:
    """Return the name of the upload that a request is about."""
    return handler.path.partition("?")[0].rpartition("/")[2]


@pytest.mark.parametrize("layer", [LARGE, LARGE[: 3 << 19]], ids=["stream", "from memory"])
def test_bodies_that_are_too_large_at_the_same_time_go_in_chunks_of_one_size(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, layer: bytes
) -> None:
    """Each was sent before any of them was refused: that is no reason for the smallest chunks."""
    layers = tuple(bytes([number]) + layer[1:] for number in range(6))
    source.add_image("app", "v1", layers=layers)
    destination.largest_body = 5 << 18
    together = threading.Barrier(len(layers))

    def meet(handler: Handler) -> bool:
        if handler.length == len(layer):
            with suppress(threading.BrokenBarrierError):
                together.wait(5)
        return False

    for method in ("PUT", "PATCH"):
        destination.fail(method, "uploads", meet, times=999)
    report = copy(source.image("app:v1"), destination.image("app:v1"))
    assert [one.error for one in report.images] == [""]
    assert not together.broken
    assert {digest_of(one) for one in layers} < set(destination.blobs["app"])


def ended_without_a_word(handler: Handler) -> bool:
    """End an upload and leave before the answer."""
    repository = handler.path.removeprefix("/v2/").partition("/blobs/")[0]
    content = bytes(handler.registry.uploads.pop(name_of(handler))) + handler.read()
    handler.registry.blobs[repository][digest_of(content)] = content
    handler.close_connection = True
    return True


def taken_and_failed(handler: Handler) -> bool:
    """Have the bytes of an upload, and not the blob."""
    handler.registry.uploads[name_of(handler)] += handler.read()
    return handler.answer(500)


def as_zuul_registry_does(handler: Handler) -> bool:
    """Break at an upload that has ended, and at one that would have its bytes twice."""
    held = handler.registry.uploads.get(name_of(handler))
    if held is not None and not (held and handler.length):
        return False
    handler.read()
    return handler.answer(500)


@pytest.mark.parametrize("layer", [LARGE, b"small"], ids=["stream", "from memory"])
@pytest.mark.parametrize("fault", [ended_without_a_word, taken_and_failed])
def test_an_upload_that_may_have_ended_is_not_ended_again(
    source: FakeRegistry,
    destination: FakeRegistry,
    copy: Copy,
    layer: bytes,
    fault: Callable[[Handler], bool],
) -> None:
    """What is there by then is not sent again, and what is not goes by another upload."""
    source.add_image("app", "v1", layers=(layer,))
    digest = digest_of(layer)
    destination.fail("PUT", f"digest={digest}", fault)
    destination.fail("PUT", "uploads", as_zuul_registry_does, times=99)
    report = copy(source.image("app:v1"), destination.image("app:v1"))
    assert [one.error for one in report.images] == [""]
    assert destination.blobs["app"][digest] == layer
    assert len(source.asked("GET", digest)) == 1
    assert report.images[0].moved < 2 * len(layer) + 100


@pytest.mark.parametrize("layer", [LARGE, b"small"], ids=["stream", "from memory"])
def test_a_registry_that_has_many_uploads_is_asked_until_they_have_ended(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, layer: bytes
) -> None:
    """Those of other builds take longer than a few tries."""
    source.add_image("app", "v1", layers=(layer,))
    for method in ("PATCH", "PUT"):
        destination.fail(method, "uploads", status(429, Retry_After="1"), times=20)
    report = copy(source.image("app:v1"), destination.image("app:v1"))
    assert [one.error for one in report.images] == [""]
    assert destination.blobs["app"][digest_of(layer)] == layer


def test_an_upload_in_chunks_goes_on_where_the_last_chunk_ended(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """distribution has how much there is in the address, and ends an upload at an older one."""
    source.add_image("app", "v1", layers=(LARGE,))
    taken: list[int] = []
    turns = itertools.count(1)

    def ask(handler: Handler) -> bool:
        path, _mark, query = handler.path.partition("?")
        held = handler.registry.uploads.get(name_of(handler), bytearray())
        if query != (f"state={len(held)}" if held else ""):
            del handler.registry.uploads[name_of(handler)]
            return status(416)(handler)
        held += handler.read()
        place = {"Range": f"0-{max(len(held) - 1, 0)}", "Location": f"{path}?state={len(held)}"}
        return handler.answer(204 if handler.command == "GET" else 202, place)

    def append(handler: Handler) -> bool:
        if handler.length > 2 << 20:
            return status(413)(handler)
        if next(turns) == 3:
            return status(502)(handler)
        taken.append(handler.length)
        return ask(handler)

    destination.fail("PATCH", "uploads", append, times=999)
    destination.fail("GET", "uploads", ask, times=999)
    report = copy(source.image("app:v1"), destination.image("app:v1"))
    assert [one.error for one in report.images] == [""]
    assert destination.blobs["app"][digest_of(LARGE)] == LARGE
    assert sum(taken) == len(LARGE)


@pytest.mark.parametrize("told", ["500", "nothing"])
def test_an_upload_of_another_copy_that_nobody_knows_more_of_is_begun_anew(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, tmp_path: Path, told: str
) -> None:
    """It was noted with the address of a server that is gone, or is broken there."""
    source.add_image("app", "v1", layers=(NOTED,))
    with serving() as gone:
        server = gone.url if told == "nothing" else destination.url
    UploadJournal(tmp_path).put(
        f"{destination.url}/app@{digest_of(NOTED)}", f"{server}/v2/app/blobs/uploads/77"
    )
    destination.fail("GET", "uploads/77", status(500), times=99)
    report = copy(source.image("app:v1"), destination.image("app:v1"), journal=tmp_path)
    assert [one.error for one in report.images] == [""]
    assert destination.blobs["app"][digest_of(NOTED)] == NOTED
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("noted", [False, True])
def test_a_source_that_breaks_leaves_an_upload_to_who_knows_of_it(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, tmp_path: Path, noted: bool
) -> None:
    """Registries keep for days what nobody has ended."""
    source.add_image("app", "v1", layers=(NOTED,))
    source.fail("GET", digest_of(NOTED), half_a_body)
    source.fail("GET", digest_of(NOTED), status(404), times=99)
    more = {"journal": tmp_path} if noted else {}
    assert copy(source.image("app:v1"), destination.image("app:v1"), **more).failed
    assert bool(destination.uploads) is noted


def refused_and_kept(handler: Handler) -> bool:
    """Refuse an upload that is not the blob, and keep it, as distribution does."""
    held = handler.registry.uploads.get(name_of(handler), b"")
    return bool(held) and digest_of(bytes(held)) not in handler.path and status(400)(handler)


def test_a_noted_upload_with_other_bytes_is_begun_anew_where_it_is_kept(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, tmp_path: Path
) -> None:
    """Its registry lost them, or an earlier copy had them of a source that was broken."""
    source.add_image("app", "v1", layers=(NOTED,))
    destination.uploads["77"] = bytearray(len(NOTED) // 2)
    UploadJournal(tmp_path).put(
        f"{destination.url}/app@{digest_of(NOTED)}", f"{destination.url}/v2/app/blobs/uploads/77"
    )
    destination.fail("PUT", "uploads", refused_and_kept, times=99)
    report = copy(source.image("app:v1"), destination.image("app:v1"), journal=tmp_path)
    assert [one.error for one in report.images] == [""]
    assert destination.blobs["app"][digest_of(NOTED)] == NOTED
    assert not destination.uploads
    assert not list(tmp_path.iterdir())


def test_an_upload_that_a_busy_registry_loses_goes_by_another_one(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """A proxy says so of a registry that is started again."""
    source.add_image("app", "v1", layers=(b"small",))

    def lose(handler: Handler) -> bool:
        handler.registry.uploads.clear()
        return status(503)(handler)

    destination.fail("PUT", f"digest={digest_of(b'small')}", lose)
    report = copy(source.image("app:v1"), destination.image("app:v1"))
    assert [one.error for one in report.images] == [""]


@pytest.mark.parametrize("layer", [LARGE, b"small"], ids=["stream", "from memory"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_registry_that_is_full_is_no_way_that_takes_no_large_bodies(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, layer: bytes, method: str
) -> None:
    """It may say 413 where no body has been sent."""
    source.add_image("app", "v1", layers=(layer,))

    def refuse(handler: Handler) -> bool:
        return not handler.length and status(413)(handler)

    if method == "POST":  # once it has been begun
        destination.fail("PATCH", "uploads", status(404))
        destination.fail("PUT", f"digest={digest_of(b'small')}", status(404))
        destination.fail("POST", "uploads", lambda _handler: False, times=2)
    destination.fail(method, "uploads", refuse, times=50)
    report = copy(source.image("app:v1"), destination.image("app:v1"))
    if method == "PUT" and layer == b"small":
        assert not report.failed
    else:
        assert "answers 413" in report.images[0].error
        assert len(destination.asked(method, "uploads")) < 10


def token_wanted(handler: Handler) -> bool:
    """Send to a token server, for uploads alone."""
    realm = f'Bearer realm="{handler.registry.url}/token"'
    return status(401, WWW_Authenticate=realm)(handler)


def test_what_became_of_an_upload_is_waited_for_once(
    source: FakeRegistry,
    destination: FakeRegistry,
    copy: Copy,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """And the upload is left to the next copy, which sends the rest of it."""
    source.add_image("app", "v1", layers=(NOTED,))
    busy = status(429, Retry_After="20")
    destination.fail("PATCH", "uploads", take_half)
    destination.fail("GET", "uploads", busy, times=999)
    destination.fail("DELETE", "uploads", busy, times=999)
    pauses: list[float] = []
    monkeypatch.setattr(Ends, "sleep", lambda _ends, seconds: pauses.append(seconds))
    words = (source.image("app:v1"), destination.image("app:v1"))
    (failed,) = copy(*words, journal=tmp_path).failed
    assert "answers 429 to GET" in failed.error
    assert sum(pauses) <= LONGEST_PAUSE + 1
    destination.faults.clear()
    report = copy(*words, journal=tmp_path)
    assert [one.error for one in report.images] == [""]
    assert report.images[0].moved == len(NOTED) // 2


@pytest.mark.parametrize("layer", [LARGE, b"small"], ids=["stream", "from memory"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "uploads"), ("PATCH", "uploads"), ("PUT", "uploads"), ("GET", "token")],
)
def test_a_registry_that_stays_busy_is_waited_for_once(
    source: FakeRegistry,
    destination: FakeRegistry,
    copy: Copy,
    monkeypatch: pytest.MonkeyPatch,
    layer: bytes,
    method: str,
    path: str,
) -> None:
    """Not as long for each try of whoever has it asked."""
    source.add_image("app", "v1", layers=(layer,), config={**descriptor(b"{}", CONFIG)})
    source.add_blob("app", b"{}")
    destination.blobs["app"][digest_of(b"{}")] = b"{}"
    destination.fail("POST", "uploads", token_wanted, times=99 if path == "token" else 0)
    destination.fail(method, path, status(503, Retry_After="1"), times=9999)
    pauses: list[float] = []
    monkeypatch.setattr(Ends, "sleep", lambda _ends, seconds: pauses.append(seconds))
    report = copy(source.image("app:v1"), destination.image("app:v1"))
    if method == "PATCH" and layer == b"small":
        assert (report.failed, pauses) == ([], [])
    else:
        assert "answers 503" in report.images[0].error
        assert LONGEST_PAUSE * 0.9 < sum(pauses) <= LONGEST_PAUSE
