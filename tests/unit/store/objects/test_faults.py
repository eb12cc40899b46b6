# SPDX-License-Identifier: Apache-2.0
"""A service that is slow, full, or answers nonsense: nothing is lost, nothing wrong is served."""

import errno
import math
import os
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from buildset_registry.errors import BlobUploadInvalid
from buildset_registry.gc import CollectionRules, Collector
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.registry import Registry
from buildset_registry.store import open_store
from buildset_registry.store.base import BlobRedirect, Store
from buildset_registry.store.objects import links
from buildset_registry.store.objects.dialect import ABSENT, Body, ConditionFailed, ObjectFailure
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.parts import PartBudget

from tests.stores.proxied import check_that_a_proxys_404_tells_of_nothing
from tests.unit.clocks import Shifted
from tests.unit.gc.images import RULES, clean, is_whole, push_image
from tests.unit.store.blobs import broken, content_of, pieces
from tests.unit.store.objects.conftest import Configure
from tests.unit.store.objects.meddler import Meddler, error

NAME = RepositoryName("org/app")
ONE = Digest.of(b"one")
PART = 8 * 1024 * 1024
LARGE = os.urandom(1024 * 1024) * 17


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, "")])
@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD", "POST"])
async def test_what_may_pass_is_tried_again(
    bucket: Store, meddler: Meddler, method: str, status: int, code: str
) -> None:
    """Clients are told nothing of it."""
    meddler.fail(1, lambda: error(status, code), of=method)
    upload = await bucket.uploads.create(NAME)
    await upload.append(pieces(LARGE))
    await upload.commit(Digest.of(LARGE))
    await bucket.pushed(NAME).tags.set(Tag("1"), ONE)
    assert await bucket.pushed(NAME).tags.get(Tag("1"))
    assert await bucket.blobs.keep(Digest.of(LARGE)) == len(LARGE)


async def test_a_proxy_without_its_service_has_nothing_to_tell(
    bucket: Store, meddler: Meddler
) -> None:
    """A collection would take a manifest for gone, and remove what it needs."""
    await bucket.blobs.put(ONE, b"one")
    meddler.fail(1, lambda: web.Response(status=404, text="404 page not found"), of="GET")
    with pytest.raises(ObjectFailure, match="404"):
        await bucket.blobs.read(ONE)
    assert await bucket.blobs.read(ONE) == b"one"
    assert await bucket.blobs.read(Digest.of(b"other")) is None


async def test_a_proxys_page_tells_nothing_of_an_object(
    bucket: Store, meddler: Meddler, configure: Configure
) -> None:
    """Nor is a condition refused by it."""
    dialect = bucket.uploads._places.dialect  # type: ignore[attr-defined]  # what a test is about
    await check_that_a_proxys_404_tells_of_nothing(dialect, meddler, "key")
    meddler.fail(1, lambda: web.Response(status=404, text="404 page not found"), of="PUT")
    with pytest.raises(ObjectFailure, match="404") as raised:
        await dialect.put("key", Body(3, (b"one",)), ABSENT)
    assert not isinstance(raised.value, ConditionFailed)


async def test_a_blob_of_the_same_size_is_not_taken_for_what_was_sent(
    bucket: Store, meddler: Meddler
) -> None:
    """Its parts were removed meanwhile, and what is at its key is damaged."""
    digest = Digest.of(LARGE)
    upload = await bucket.uploads.create(NAME)
    await upload.append(pieces(LARGE), last=digest)
    dialect = bucket.uploads._places.dialect  # type: ignore[attr-defined]  # what a test is about
    key = Keys().blob(digest)
    await dialect.put(key, Body(len(LARGE), (bytes(len(LARGE)),)))
    await dialect.abandon(key, 2**40)
    with pytest.raises(BlobUploadInvalid, match="is damaged"):
        await upload.commit(digest)
    again = await bucket.uploads.create(NAME)
    await again.append(pieces(LARGE), last=digest)
    await again.commit(digest)
    blob = await bucket.blobs.open(digest)
    assert blob
    assert await content_of(blob) == LARGE


AHEAD = Shifted(3600)


async def test_a_collector_whose_clock_is_ahead_keeps_what_was_just_pushed(
    bucket: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock of the service nobody's grace period is over."""
    for module in ("gc.state", "store.objects.clock"):
        monkeypatch.setattr(f"buildset_registry.{module}.time", AHEAD)
    await bucket.blobs.put(ONE, b"one")
    upload = await bucket.uploads.create(NAME)
    await upload.append(pieces(b"begun"))
    rules = CollectionRules(grace=600, untagged=None, uploads=600, cache_size=None)
    collector = Collector(bucket, rules, 0)
    report = await collector.run(lambda _progress: None, dry_run=False)
    assert (report.blobs, report.removed) == (0, [])
    assert await bucket.blobs.read(ONE) == b"one"


async def test_a_body_that_breaks_off_goes_on(bucket: Store, meddler: Meddler) -> None:
    """From where it broke; the client gets all of it."""
    digest = Digest.of(LARGE)
    await bucket.blobs.put(digest, LARGE)
    blob = await bucket.blobs.open(digest)
    assert blob
    meddler.truncated = 2
    assert await content_of(blob) == LARGE


async def test_a_part_that_fails_leaves_the_session_as_it_was(
    bucket: Store, meddler: Meddler
) -> None:
    """The client is told so, and goes on from the offset that it was told before."""
    upload = await bucket.uploads.create(NAME)
    await upload.append(pieces(LARGE[:PART]), last=None)
    meddler.rule = lambda one: (
        error(400, "BadDigest") if "partNumber=2" in one.query_string else None
    )
    with pytest.raises(ObjectFailure, match="BadDigest"):
        await upload.append(pieces(LARGE[PART:]))
    meddler.rule = lambda _request: None
    again = await bucket.uploads.resume(NAME, upload.id)
    assert again.size == PART
    await again.append(pieces(LARGE[PART:]))
    await again.commit(Digest.of(LARGE))
    blob = await bucket.blobs.open(Digest.of(LARGE))
    assert blob
    assert await content_of(blob) == LARGE


async def test_a_wrong_tag_of_a_part_is_noticed(bucket: Store, meddler: Meddler) -> None:
    """What the service cannot put together is no blob; the whole can be sent again."""
    wrong = web.Response(headers={"ETag": '"0123456789abcdef0123456789abcdef"'})
    digest = Digest.of(LARGE)
    upload = await bucket.uploads.create(NAME)
    meddler.rule = lambda one: wrong if "partNumber=1" in one.query_string else None
    await upload.append(pieces(LARGE), last=digest)
    with pytest.raises(ObjectFailure, match="InvalidPart"):
        await upload.commit(digest)
    meddler.rule = lambda _request: None
    assert await bucket.blobs.size(digest) is None
    again = await bucket.uploads.resume(NAME, upload.id)
    assert again.size == 0
    await again.append(pieces(LARGE), last=digest)
    await again.commit(digest)
    assert await bucket.blobs.size(digest) == len(LARGE)


async def test_a_full_quota_is_a_full_disk(bucket: Store, meddler: Meddler) -> None:
    """By which a client is told 507."""
    meddler.rule = lambda one: error(409, "QuotaExceeded") if one.method == "PUT" else None
    with pytest.raises(ObjectFailure) as raised:
        await bucket.blobs.put(ONE, b"one")
    assert raised.value.errno == errno.EDQUOT
    upload = await bucket.uploads.create(NAME)
    with pytest.raises(ObjectFailure) as raised:  # and no other request that was faster
        await upload.append(pieces(b"some"))
    assert raised.value.errno == errno.EDQUOT


async def test_what_was_pulled_through_is_served_from_a_full_bucket(
    bucket: Store,
    meddler: Meddler,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """That it is used is not noted, and that is not tried by each pull."""
    cached = bucket.cached(NAME)
    await bucket.blobs.put(ONE, b"one")
    await cached.manifests.add(ONE)
    monkeypatch.setattr(links, "_NOTED_SECONDS", -1)
    meddler.rule = lambda one: error(403, "QuotaExceeded") if one.method == "PUT" else None
    assert await cached.manifests.has(ONE)
    assert "is used cannot be noted: the object store answers 403 QuotaExceeded" in caplog.text
    cached.manifests._resting = math.inf  # type: ignore[attr-defined]  # the time that passes
    meddler.asked.clear()
    assert await cached.manifests.has(ONE)
    assert not [method for method, _path in meddler.asked if method == "PUT"]


async def test_a_list_that_lags_costs_no_image(bucket: Store, meddler: Meddler) -> None:
    """A collection that is told of no repository leaves what was pushed lately."""
    registry = Registry(bucket)
    image = await push_image(registry, "v1", name=NAME, layers=[b"one"])

    def lagging(request: web.Request) -> web.Response | None:
        listed = "list-type" in request.query and request.query.get("prefix", "")
        if request.method == "GET" and listed and "repositories" in listed:
            text = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
            return web.Response(text=text, content_type="application/xml")
        return None

    meddler.rule = lagging
    report = await clean(bucket, replace(RULES, grace=60))
    assert report.blobs == 0
    meddler.rule = lambda _request: None
    assert await is_whole(registry, NAME, image)


async def test_a_store_that_is_gone_for_a_while_loses_nothing(
    bucket: Store, meddler: Meddler
) -> None:
    """Pushes fail clearly and go on from where they were; what was there is there again."""
    await bucket.blobs.put(ONE, b"one")
    upload = await bucket.uploads.create(NAME)
    await upload.append(pieces(LARGE[:PART]), last=None)
    meddler.rule = lambda _request: error(400, "ServerGone")
    with pytest.raises(ObjectFailure, match="ServerGone"):
        await upload.append(pieces(LARGE[PART:]))
    with pytest.raises(ObjectFailure, match="ServerGone"):
        await bucket.blobs.read(ONE)
    assert await bucket.space.problem()
    meddler.rule = lambda _request: None
    assert await bucket.blobs.read(ONE) == b"one"
    again = await bucket.uploads.resume(NAME, upload.id)
    assert again.size == PART
    await again.append(pieces(LARGE[PART:]))
    await again.commit(Digest.of(LARGE))
    assert await bucket.blobs.size(Digest.of(LARGE)) == len(LARGE)
    assert await bucket.space.problem() is None


async def test_a_change_whose_answer_was_lost_is_our_own(bucket: Store, meddler: Meddler) -> None:
    """The state of a session was replaced, and the service's word for it never came."""
    upload = await bucket.uploads.create(NAME)
    await upload.append(pieces(b"on"))
    meddler.lost = 1
    await upload.append(pieces(b"e"))
    assert meddler.lost == 0
    again = await bucket.uploads.resume(NAME, upload.id)
    await again.commit(ONE)
    assert await bucket.blobs.read(ONE) == b"one"


async def test_a_full_disk_under_what_is_gathered_leaves_the_session_as_it_was(
    bucket: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not written whole is no part of it, and is sent again."""
    monkeypatch.setattr(bucket.uploads, "_budget", PartBudget(0))
    upload = await bucket.uploads.create(NAME)
    await upload.append(pieces(b"o"))
    with monkeypatch.context() as full:

        def write(_descriptor: int, _data: bytes, _offset: int) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        full.setattr("buildset_registry.store.objects.parts.os.pwrite", write)
        with pytest.raises(OSError, match="No space"):
            await upload.append(pieces(b"ne"))
    again = await bucket.uploads.resume(NAME, upload.id)
    assert again.size == 1
    await again.append(pieces(b"ne"))
    await again.commit(ONE)
    assert await bucket.blobs.read(ONE) == b"one"


async def test_an_upload_that_another_replica_began_is_not_begun_anew(
    bucket: Store, configure: Configure
) -> None:
    """Both found nothing of it: what one has told its client is there stays."""
    async with aclosing(await open_store(configure())) as other:
        upload = await bucket.uploads.create(NAME)
        late = await other.uploads.resume(NAME, upload.id)
        await upload.append(pieces(b"one"))
        with pytest.raises(BlobUploadInvalid):
            await late.append(pieces(LARGE))
    again = await bucket.uploads.resume(NAME, upload.id)
    assert again.size == 3
    await again.commit(ONE)
    assert await bucket.blobs.read(ONE) == b"one"


async def test_a_client_that_leaves_has_what_it_sent_kept(bucket: Store) -> None:
    """Of a patch, parts and the rest: another request goes on behind it."""
    upload = await bucket.uploads.create(NAME)
    with pytest.raises(ConnectionError):
        await upload.append(broken(ConnectionError("the client left"), LARGE[:-5], b""))
    again = await bucket.uploads.resume(NAME, upload.id)
    assert again.size == len(LARGE) - 5
    await again.append(pieces(LARGE[-5:]))
    await again.commit(Digest.of(LARGE))
    assert await bucket.blobs.size(Digest.of(LARGE)) == len(LARGE)


def opened() -> int:
    """Count the files that this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_uploads_that_nobody_goes_on_with_take_few_files(
    bucket: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their last bytes are in the bucket: one client cannot fill the disk with what it left."""
    monkeypatch.setattr(bucket.uploads, "_budget", PartBudget(0))
    before = opened()
    first = await bucket.uploads.create(NAME)
    await first.append(pieces(b"on"))
    upload_id = first.id
    del first
    for _ in range(100):
        upload = await bucket.uploads.create(NAME)
        await upload.append(pieces(b"1"))
    assert opened() - before < 80
    again = await bucket.uploads.resume(NAME, upload_id)
    await again.append(pieces(b"e"))
    await again.commit(ONE)
    assert await bucket.blobs.read(ONE) == b"one"


async def test_clients_are_sent_on_to_what_is_known_while_the_store_is_gone(
    bucket: Store, meddler: Meddler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may reach it where the registry does not; what is not known fails, and is not denied."""
    await bucket.blobs.put(ONE, b"one")
    layers = bucket.pushed(NAME).layers
    await layers.add(ONE)
    for module in ("blobs", "small"):
        monkeypatch.setattr(f"buildset_registry.store.objects.{module}.time", AHEAD)
    meddler.rule = lambda _request: error(400, "ServerGone")
    assert await layers.has(ONE)
    assert isinstance(await bucket.blobs.open(ONE), BlobRedirect)
    with pytest.raises(ObjectFailure, match="answers 400"):
        await bucket.blobs.open(Digest.of(b"other"))
    with pytest.raises(ObjectFailure, match="answers 400"):
        await layers.has(Digest.of(b"other"))
    with pytest.raises(ObjectFailure, match="answers 400"):
        await bucket.blobs.keep(ONE)
    meddler.rule = lambda _request: None
    await layers.remove(ONE)
    assert not await layers.has(ONE)
