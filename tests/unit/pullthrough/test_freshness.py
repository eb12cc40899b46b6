# SPDX-License-Identifier: Apache-2.0
"""For how long a tag holds, and what is served when upstream cannot be asked."""

import asyncio
import errno
import logging
import time
from collections.abc import AsyncIterator, Callable

import pytest
from buildset_registry.errors import ManifestUnknown, UpstreamBusy, UpstreamFailed
from buildset_registry.oci.descriptor import OCI_INDEX
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Tag
from buildset_registry.pullthrough import Freshness
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem import links
from buildset_registry.store.filesystem.store import FilesystemStore
from buildset_registry.upstream.client import UpstreamClient
from buildset_registry.upstream.transport import Timeouts

from tests.unit.pullthrough.reading import PUSHED, PullingRegistry, arriving
from tests.unit.store.blobs import content_of
from tests.unit.upstream.lab import (
    BLOB,
    BLOB_DIGEST,
    BLOB_PATH,
    MANIFEST,
    NAME,
    V1,
    V1_PATH,
    Server,
    blob,
    by_method,
    eventually,
    gated,
    halting,
    hanging_up,
    manifest,
    reply,
    slow,
)

DIGEST = Digest.of(MANIFEST)
NEWER = b'{"schemaVersion": 2, "manifests": [], "annotations": {"newer": "yes"}}'
#: Longer than a host name may be: it is refused before anybody is asked.
NO_HOST = "https://" + ".".join(["a" * 60] * 5)


class Clock:
    """Time as the test sets it, from now on."""

    def __init__(self) -> None:
        self.passed = 0.0

    def __call__(self) -> float:
        return time.time() + self.passed


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def pulling(
    store: FilesystemStore, quay: Server, connect: Callable[..., UpstreamClient], clock: Clock
) -> AsyncIterator[Callable[..., PullingRegistry]]:
    """Make registries that pull through; each is closed at the end."""
    made: list[PullingRegistry] = []

    def make(
        client: UpstreamClient | None = None, *, tag: float = 60, wait: float = 10, rest: float = 30
    ) -> PullingRegistry:
        freshness = Freshness(tag, wait, rest, clock)
        one = PullingRegistry(store, client or connect(), freshness)
        made.append(one)
        return one

    quay.on(V1_PATH, manifest(Docker_Content_Digest=str(DIGEST)))
    yield make
    for one in made:
        await one.close()


def methods(quay: Server) -> list[str]:
    return [asked.method for asked in quay.asked]


async def test_a_tag_holds_for_ever_by_default(
    store: FilesystemStore, quay: Server, connect: Callable[..., UpstreamClient]
) -> None:
    """A buildset sees one image for its whole life, after a restart, too."""
    quay.on(V1_PATH, manifest())
    registry = PullingRegistry(store, connect(), Freshness(clock=lambda: time.time() + 1e9))
    await registry.manifest(NAME, V1)
    quay.on(V1_PATH, manifest(NEWER))
    assert (await registry.manifest(NAME, V1)).raw == MANIFEST
    again = PullingRegistry(store, connect())
    assert (await again.manifest(NAME, V1)).raw == MANIFEST
    assert methods(quay) == ["GET"]
    assert again.counters.hits == {"manifest": 1}


async def test_a_tag_that_holds_is_served_where_that_cannot_be_noted(
    pulling: Callable[..., PullingRegistry],
    store: FilesystemStore,
    quay: Server,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On a disk that is full, whoever filled it; upstream is asked again the next time."""
    registry = pulling()
    await registry.manifest(NAME, V1)
    clock.passed = 61

    async def full(_tags: object, _tag: Tag, _digest: Digest) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(store.cached(NAME).tags), "set", full)
    for _ in range(2):
        assert (await registry.manifest(NAME, V1)).raw == MANIFEST
    assert methods(quay) == ["GET", "HEAD", "HEAD"]
    assert f"that {NAME}:{V1} still holds cannot be noted: [Errno 28]" in caplog.text


async def test_a_cached_image_is_served_from_a_disk_that_is_read_only(
    pulling: Callable[..., PullingRegistry], quay: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel makes one that has failed; that it was used is not noted."""
    quay.on(BLOB_PATH, blob())
    registry = pulling()
    await registry.manifest(NAME, V1)
    await arriving(await registry.blob(NAME, BLOB_DIGEST)).complete()

    def read_only(*_given: object, **_named: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(links, "_NOTED_SECONDS", -1)
    monkeypatch.setattr("os.utime", read_only)
    assert (await registry.manifest(NAME, V1)).raw == MANIFEST
    assert await content_of(await registry.blob(NAME, BLOB_DIGEST)) == BLOB


async def test_a_tag_that_is_due_is_compared_by_head(
    pulling: Callable[..., PullingRegistry], quay: Server, clock: Clock
) -> None:
    """Nothing is fetched while it is the same, and it holds anew."""
    registry = pulling()
    await registry.manifest(NAME, V1)
    clock.passed = 59
    await registry.manifest(NAME, V1)
    assert methods(quay) == ["GET"]
    clock.passed = 61
    found = await asyncio.gather(*(registry.manifest(NAME, V1) for _ in range(20)))
    assert {one.raw for one in found} == {MANIFEST}
    assert methods(quay) == ["GET", "HEAD"]
    clock.passed = 0
    await registry.manifest(NAME, V1)
    assert methods(quay) == ["GET", "HEAD"]


async def test_a_tag_that_has_changed_is_fetched(
    pulling: Callable[..., PullingRegistry], quay: Server, clock: Clock
) -> None:
    """The old image stays by its digest."""
    registry = pulling()
    await registry.manifest(NAME, V1)
    quay.on(V1_PATH, manifest(NEWER, Docker_Content_Digest=str(Digest.of(NEWER))))
    clock.passed = 61
    assert (await registry.manifest(NAME, V1)).raw == NEWER
    assert (await registry.manifest(NAME, DIGEST)).raw == MANIFEST
    assert methods(quay) == ["GET", "HEAD", "GET"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 500, 501])
async def test_a_tag_that_has_changed_is_seen_where_head_is_refused(
    pulling: Callable[..., PullingRegistry], quay: Server, clock: Clock, status: int
) -> None:
    """By GET; a tag that is there is not forgotten because HEAD does not find it."""
    registry = pulling()
    await registry.manifest(NAME, V1)
    quay.on(V1_PATH, by_method(HEAD=reply(status), GET=manifest(NEWER)))
    clock.passed = 61
    assert (await registry.manifest(NAME, V1)).raw == NEWER
    quay.on(V1_PATH, by_method(HEAD=reply(status), GET=manifest(NEWER)))
    clock.passed = 122
    assert (await registry.manifest(NAME, V1)).raw == NEWER
    assert registry.counters.stale == 0


async def test_a_tag_that_moved_to_an_image_that_is_here_is_not_fetched(
    pulling: Callable[..., PullingRegistry], quay: Server, clock: Clock
) -> None:
    """Back to an older one, or to that of another tag: Docker Hub counts GET, and not HEAD."""
    registry = pulling()
    await registry.manifest(NAME, V1)
    for content, fetched in ((NEWER, True), (MANIFEST, False), (NEWER, False)):
        quay.on(V1_PATH, manifest(content, Docker_Content_Digest=str(Digest.of(content))))
        clock.passed += 61
        before = len(quay.asked)
        assert (await registry.manifest(NAME, V1)).raw == content
        assert methods(quay)[before:] == (["HEAD", "GET"] if fetched else ["HEAD"])
    assert (await registry.manifest(NAME, V1)).raw == NEWER
    assert registry.counters.hits == {"manifest": 3}


async def test_no_tag_holds_where_the_clock_was_set_back(
    pulling: Callable[..., PullingRegistry], quay: Server, clock: Clock
) -> None:
    """Otherwise it would hold until the clock has caught up."""
    registry = pulling()
    await registry.manifest(NAME, V1)
    clock.passed = -3600
    await registry.manifest(NAME, V1)
    assert methods(quay) == ["GET", "HEAD"]


async def test_zero_asks_each_time(pulling: Callable[..., PullingRegistry], quay: Server) -> None:
    """And a digest never changes."""
    registry = pulling(tag=0)
    for _ in range(3):
        await registry.manifest(NAME, V1)
        await registry.manifest(NAME, DIGEST)
    assert methods(quay) == ["GET", "HEAD", "HEAD"]


async def test_a_tag_that_upstream_deleted_is_gone(
    pulling: Callable[..., PullingRegistry], quay: Server, clock: Clock
) -> None:
    """Its manifest stays by digest, for images that refer to it."""
    registry = pulling()
    await registry.manifest(NAME, V1)
    quay.on(V1_PATH, reply(404))
    clock.passed = 61
    with pytest.raises(ManifestUnknown):
        await registry.manifest(NAME, V1)
    clock.passed = 0
    with pytest.raises(ManifestUnknown):
        await registry.manifest(NAME, V1)
    assert (await registry.manifest(NAME, DIGEST)).raw == MANIFEST


async def test_a_push_wins_over_what_is_stale(
    pulling: Callable[..., PullingRegistry], store: FilesystemStore, quay: Server, clock: Clock
) -> None:
    """Also when it comes while upstream is being asked in vain."""
    registry = pulling()
    await registry.manifest(NAME, V1)
    clock.passed = 61
    gate = asyncio.Event()
    quay.on(V1_PATH, gated(gate, reply(429)))
    waiting = asyncio.create_task(registry.manifest(NAME, V1))
    await eventually(lambda: len(quay.asked) == 2)
    await Registry(store).push_manifest(NAME, [V1], PUSHED, OCI_INDEX)
    gate.set()
    assert (await waiting).raw == PUSHED


FAILURES = {
    "rate limit": (reply(429, Retry_After="77"), UpstreamBusy, "quay.io limits the rate", "77"),
    "busy": (reply(503, Retry_After="77"), UpstreamFailed, "quay.io .*answers 503", "77"),
    "busy until a date": (
        reply(503, Retry_After="Fri, 31 Dec 2027 23:59:59 GMT"),
        UpstreamFailed,
        "quay.io .*answers 503",
        "Fri, 31 Dec 2027 23:59:59 GMT",
    ),
    "error": (reply(500), UpstreamFailed, "quay.io .*answers 500", None),
    "nonsense in Retry-After": (
        reply(429, Retry_After='"><script>'),
        UpstreamBusy,
        "quay.io limits the rate",
        None,
    ),
    "time-out": (slow(5), UpstreamFailed, "quay.io .*no data for 0.3 s", None),
    "broken connection": (hanging_up(), UpstreamFailed, "quay.io .*the connection broke", None),
    "a web page": (
        manifest(b"<html>", "text/html"),
        UpstreamFailed,
        "quay.io .*answers with a web page",
        None,
    ),
    "schema 1": (
        manifest(b'{"schemaVersion": 1}', "application/vnd.docker.distribution.manifest.v1+json"),
        UpstreamFailed,
        "quay.io .*has this image in Docker's schema 1",
        None,
    ),
}


@pytest.mark.parametrize("kind", FAILURES)
async def test_what_is_cached_is_served_when_upstream_fails(
    pulling: Callable[..., PullingRegistry],
    quay: Server,
    connect: Callable[..., UpstreamClient],
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    """And logged as stale, with the reason; a blob needs upstream no more."""
    answer, *_ = FAILURES[kind]
    quay.on(BLOB_PATH, blob())
    registry = pulling(connect(timeouts=Timeouts(read=0.3)))
    await registry.manifest(NAME, V1)
    await arriving(await registry.blob(NAME, BLOB_DIGEST)).complete()
    clock.passed = 61
    quay.on(V1_PATH, by_method(GET=answer, HEAD=answer))
    quay.on(BLOB_PATH, answer)
    with caplog.at_level(logging.WARNING):
        assert (await registry.manifest(NAME, V1)).raw == MANIFEST
    assert registry.counters.stale == 1
    (line,) = [one.getMessage() for one in caplog.records if "is stale" in one.getMessage()]
    assert line.startswith("quay.io/org/app:v1 is stale, served from the store: upstream quay.io")
    assert (await registry.blob(NAME, BLOB_DIGEST)).size > 0


@pytest.mark.parametrize("kind", FAILURES)
async def test_with_nothing_cached_the_failure_names_upstream_and_reason(
    pulling: Callable[..., PullingRegistry],
    quay: Server,
    connect: Callable[..., UpstreamClient],
    kind: str,
) -> None:
    """With Retry-After where upstream sent one; and it is asked again at the next request."""
    answer, error, reason, retry_after = FAILURES[kind]
    registry = pulling(connect(timeouts=Timeouts(read=0.3)))
    quay.on(V1_PATH, answer)
    quay.on(BLOB_PATH, reply(500) if kind in ("a web page", "schema 1") else answer)
    with pytest.raises(error, match=reason) as caught:
        await registry.manifest(NAME, V1)
    assert caught.value.headers.get("Retry-After") == retry_after
    with pytest.raises(error, match=r"upstream quay\.io") as caught:
        await registry.blob(NAME, BLOB_DIGEST)
    assert caught.value.headers.get("Retry-After") == retry_after
    quay.on(V1_PATH, manifest())
    assert (await registry.manifest(NAME, V1)).raw == MANIFEST


@pytest.mark.parametrize(
    ("url", "reason"),
    [(NO_HOST, "cannot be resolved"), ("https://127.0.0.1:1", "connection refused")],
)
async def test_a_registry_that_cannot_be_reached(
    pulling: Callable[..., PullingRegistry],
    connect: Callable[..., UpstreamClient],
    clock: Clock,
    url: str,
    reason: str,
) -> None:
    """No address, no listener: what is cached is served, else the reason is told."""
    await pulling().manifest(NAME, V1)
    registry = pulling(connect(url=url))
    clock.passed = 61
    assert (await registry.manifest(NAME, V1)).raw == MANIFEST
    with pytest.raises(UpstreamFailed, match=rf"upstream quay\.io .*{reason}"):
        await registry.blob(NAME, BLOB_DIGEST)


async def test_a_transfer_that_stalls_goes_on(
    pulling: Callable[..., PullingRegistry], quay: Server, connect: Callable[..., UpstreamClient]
) -> None:
    """By another request, from where it stopped."""
    registry = pulling(connect(timeouts=Timeouts(read=0.3)))
    quay.on(BLOB_PATH, halting(asyncio.Event(), BLOB, 1000), blob())
    found = arriving(await registry.blob(NAME, BLOB_DIGEST))
    assert b"".join([piece async for piece in found.chunks(0, found.size)]) == BLOB
    assert quay.asked[1].headers["Range"] == "bytes=1000-"


async def test_a_rate_limit_for_get_alone(
    pulling: Callable[..., PullingRegistry], quay: Server, clock: Clock
) -> None:
    """Docker Hub limits GET and not HEAD; that the tag has changed is known then."""
    registry = pulling()
    await registry.manifest(NAME, V1)
    clock.passed = 61
    changed = manifest(NEWER, Docker_Content_Digest=str(Digest.of(NEWER)))
    quay.on(V1_PATH, by_method(HEAD=changed, GET=reply(429)))
    assert (await registry.manifest(NAME, V1)).raw == MANIFEST
    assert registry.counters.stale == 1


async def test_an_upstream_that_fails_rests(
    pulling: Callable[..., PullingRegistry], quay: Server, clock: Clock
) -> None:
    """Its time-outs are not added to every pull; later it is asked again."""
    registry = pulling()
    await registry.manifest(NAME, V1)
    clock.passed = 61
    quay.on(V1_PATH, reply(429))
    for _ in range(5):
        assert (await registry.manifest(NAME, V1)).raw == MANIFEST
    assert methods(quay) == ["GET", "HEAD"]
    assert registry.counters.stale == 5
    another = pulling(rest=-1)
    for _ in range(2):
        await another.manifest(NAME, V1)
    assert methods(quay) == ["GET", "HEAD", "HEAD", "HEAD"]


async def test_an_upstream_that_takes_its_time(
    pulling: Callable[..., PullingRegistry], quay: Server, clock: Clock
) -> None:
    """What is at hand is served soon; what upstream says in the end is served from then on."""
    registry = pulling(wait=0.2, rest=-1)
    await registry.manifest(NAME, V1)
    clock.passed = 61
    gate = asyncio.Event()
    newer = manifest(NEWER, Docker_Content_Digest=str(Digest.of(NEWER)))
    quay.on(V1_PATH, gated(gate, newer))
    for _ in range(2):
        assert (await registry.manifest(NAME, V1)).raw == MANIFEST
    assert registry.counters.stale == 2
    gate.set()
    clock.passed = 0
    for _ in range(1000):
        if (await registry.manifest(NAME, V1)).raw == NEWER:
            break
        await asyncio.sleep(0.01)
    assert (await registry.manifest(NAME, V1)).raw == NEWER
    assert methods(quay) == ["GET", "HEAD", "GET"]


async def test_an_image_that_upstream_no_longer_shows_us(
    pulling: Callable[..., PullingRegistry], quay: Server, clock: Clock
) -> None:
    """Credentials run out: the cached image is served, and upstream does not rest. Some registries
    refuse HEAD of what they show, so GET decides."""
    registry = pulling()
    await registry.manifest(NAME, V1)
    clock.passed = 61
    quay.on(V1_PATH, reply(403))
    for _ in range(2):
        assert (await registry.manifest(NAME, V1)).raw == MANIFEST
    assert methods(quay) == ["GET", "HEAD", "GET", "HEAD", "GET"]
    assert registry.counters.stale == 2


async def test_requests_are_counted_by_upstream_method_and_status(
    pulling: Callable[..., PullingRegistry], quay: Server, clock: Clock
) -> None:
    """What an operator sees of an upstream."""
    registry = pulling()
    await registry.manifest(NAME, V1)
    clock.passed = 61
    quay.on(V1_PATH, hanging_up())
    await registry.manifest(NAME, V1)
    assert registry.counters.requests == {
        ("quay.io", "GET", "200"): 1,
        ("quay.io", "HEAD", "failed"): 1,
        ("quay.io", "GET", "failed"): 2,
    }
