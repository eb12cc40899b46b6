# SPDX-License-Identifier: Apache-2.0
"""Blobs that are acknowledged where they arrived: none is lost, whoever is killed, and when."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing

import pytest
from buildset_registry.config import Config
from buildset_registry.errors import BlobUploadInvalid, BlobUploadUnknown, RegistryError
from buildset_registry.oci.digest import Digest
from buildset_registry.store import open_store
from buildset_registry.store.base import BlobRedirect, Store, Upload
from buildset_registry.store.objects.dialect import ObjectFailure, ObjectPage
from buildset_registry.verify import verify

from tests.stores.buckets import Bucket
from tests.stores.fixtures import ObjectStores
from tests.unit.store.blobs import content_of, pieces
from tests.unit.store.kinds import s3
from tests.unit.store.objects.test_kills import (
    CONTENT,
    DIGEST,
    NAME,
    PART,
    Replica,
    bucket,
    clean,
    config,
    resumed,
    two,
)

__all__ = ["bucket", "clean", "config", "two"]

OTHER = Digest.of(b"other")
#: More requests than a commit and a move take.
_MOST = 60


def staged(bucket: Bucket) -> list[str]:
    """Return the keys of the notes of staged blobs."""
    keys = bucket.server.keys(bucket.name)
    notes = [key for key in keys if "/staged/" in key]
    assert notes or not any("/staged-last/" in key for key in keys)
    return notes


def at_its_key(bucket: Bucket, digest: Digest = DIGEST) -> bool:
    return any(digest.hex in key and key.endswith("/data") for key in bucket.blobs())


async def until(done: Callable[[], bool]) -> None:
    """Wait for something that another task does."""
    for _look in range(3000):
        if done():
            return
        await asyncio.sleep(0.02)
    raise AssertionError


async def pushed(replica: Replica, content: bytes = CONTENT) -> Upload:
    """Push a blob as docker does, up to its last request."""
    upload = await replica.store.uploads.create(NAME)
    await upload.append(pieces(content))
    return upload


async def commit(upload: Upload, digest: Digest = DIGEST) -> None:
    """Send the last request, which brings nothing."""
    await upload.append(pieces(), last=digest)
    await upload.commit(digest)


async def is_whole(store: Store, digest: Digest = DIGEST, content: bytes = CONTENT) -> bool:
    """Tell whether a blob is there, byte by byte."""
    blob = await store.blobs.open(digest)
    return blob is not None and await content_of(blob) == content


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is moved before a test wants it, however long it takes."""
    for name in ("_QUIET", "_LONGEST"):
        monkeypatch.setattr(f"buildset_registry.store.objects.staging.{name}", 600.0)


class Mortal(Replica):
    """A replica that may be killed after so many requests, or in place of an answer."""

    def dies_in(self, requests: int) -> None:
        left = [requests]

        def last(_request: object) -> bool:
            left[0] -= 1
            return left[0] == 0

        self._last = last


@pytest.fixture
async def replicas(config: Config) -> AsyncIterator[Callable[[], Awaitable[Mortal]]]:
    """Opens replicas of one bucket, and closes them."""
    async with AsyncExitStack() as stack:

        async def opened() -> Mortal:
            return Mortal(await stack.enter_async_context(aclosing(await open_store(config))))

        yield opened


async def test_a_blob_is_found_everywhere_before_it_is_at_its_key(
    two: tuple[Replica, Replica], bucket: Bucket
) -> None:
    """Read, asked for, promised, listed, counted, verified; and never where it is about to go."""
    await commit(await pushed(two[0]))
    assert len(staged(bucket)) == 1
    assert not at_its_key(bucket)
    for replica in two:
        blobs, uploads = replica.store.blobs, replica.store.uploads
        assert await blobs.size(DIGEST) == len(CONTENT)
        blob = await blobs.open(DIGEST)
        assert blob
        assert not isinstance(blob, BlobRedirect)
        assert await content_of(blob) == CONTENT
        part = b"".join([piece async for piece in blob.chunks(5, len(CONTENT) - 1)])
        assert part == CONTENT[5:-1]
        assert await blobs.read(DIGEST) == CONTENT
        assert await blobs.keep(DIGEST) == len(CONTENT)
        (state,) = [state async for states in blobs.walk() for state in states]
        assert (state.digest, state.size, state.promised > 0) == (DIGEST, len(CONTENT), True)
        assert await replica.store.space.used() == len(CONTENT)
        assert await uploads.all() == []
        assert await blobs.size(OTHER) is None
        findings = await verify(replica.store, lambda _progress: None, sparse=False, pause=0)
        assert (findings.problems, findings.blobs) == ([], 1)
    assert not at_its_key(bucket)


async def test_an_orderly_end_moves_what_is_staged(
    two: tuple[Replica, Replica], bucket: Bucket
) -> None:
    """Afterwards the bucket is as distribution would have it."""
    await commit(await pushed(two[0]))
    await two[0].store.aclose()
    assert at_its_key(bucket)
    assert (staged(bucket), bucket.leftovers()) == ([], [])
    assert await is_whole(two[1].store)


class Clock:
    """The time of a process, as a test sets it."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


async def test_what_is_staged_is_moved_when_nothing_arrives(
    two: tuple[Replica, Replica], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a client sends, it waits."""
    clock = Clock()
    monkeypatch.setattr("buildset_registry.store.objects.staging.time", clock)
    monkeypatch.setattr("buildset_registry.store.objects.staging._QUIET", 0.2)
    await commit(await pushed(two[0]))
    upload = await two[0].store.uploads.create(NAME)

    async def slow() -> AsyncIterator[bytes]:
        for _again in range(5):
            yield b"more"
            clock.now += 0.1
            await asyncio.sleep(0.1)
            assert not at_its_key(bucket)

    await upload.append(slow())
    clock.now += 0.2
    await until(lambda: not staged(bucket))
    assert at_its_key(bucket)
    assert await is_whole(two[0].store)


async def test_what_is_staged_does_not_wait_for_ever(
    two: tuple[Replica, Replica], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under pushes that never pause, each is moved in its time, and the next ones at once."""
    monkeypatch.setattr("buildset_registry.store.objects.staging._LONGEST", 0.2)
    staging = two[0].store.staging  # type: ignore[attr-defined]  # what a test is about
    contents = [bytes([number]) + CONTENT for number in range(5)]
    for content in contents:
        await commit(await pushed(two[0], content), Digest.of(content))

    def moved() -> bool:
        staging.arriving()
        return not staged(bucket)

    await until(moved)
    assert all(at_its_key(bucket, Digest.of(content)) for content in contents)


async def test_every_server_that_speaks_as_s3_does_stages(object_stores: ObjectStores) -> None:
    """Also the one that is strictest."""
    config = s3(object_stores.versitygw, chunksize=PART)
    async with (
        aclosing(await open_store(config)) as one,
        aclosing(await open_store(config)) as other,
    ):
        upload = await one.uploads.create(NAME)
        await upload.append(pieces(CONTENT))
        await commit(upload)
        assert [each.digest for each in await other.staging.all()] == [DIGEST]  # type: ignore[attr-defined]
        assert await is_whole(other)
        again = await other.uploads.resume(NAME, upload.id)
        await commit(again)
        await one.aclose()
        assert await other.staging.all() == []  # type: ignore[attr-defined]
        assert await is_whole(other)


@pytest.mark.parametrize("asked", ["here", "elsewhere"])
async def test_who_reads_a_blob_that_is_moved_gets_the_rest_of_it(
    two: tuple[Replica, Replica], bucket: Bucket, asked: str
) -> None:
    """From its key, whoever knew where it was, and when."""
    await commit(await pushed(two[0]))
    store = two[asked == "elsewhere"].store
    late = await store.blobs.open(DIGEST)
    blob = await two[1].store.blobs.open(DIGEST)
    assert late
    assert blob
    async with aclosing(blob.chunks(0, blob.size)) as chunks:
        first = await anext(chunks)
        await two[0].store.staging.aclose()  # type: ignore[attr-defined]  # what a test is about
        assert at_its_key(bucket)
        rest = [piece async for piece in chunks]
    assert b"".join([first, *rest]) == CONTENT
    assert await content_of(late) == CONTENT


async def test_two_sessions_of_one_blob_are_both_acknowledged(
    two: tuple[Replica, Replica], bucket: Bucket
) -> None:
    """At one time at two replicas; one blob is left, and nothing else."""
    uploads = [await pushed(replica) for replica in two]
    await asyncio.gather(*map(commit, uploads))
    assert len(staged(bucket)) == 2
    await two[0].store.aclose()
    assert await is_whole(two[1].store)
    await two[1].store.aclose()
    assert at_its_key(bucket)
    assert (staged(bucket), bucket.leftovers()) == ([], [])


async def test_a_last_request_whose_answer_was_lost_may_be_sent_again(
    two: tuple[Replica, Replica], bucket: Bucket
) -> None:
    """To another replica, with whatever it brought; it is neither something else nor cancelled."""
    upload = await pushed(two[0], CONTENT[:-2])
    again = await resumed(two[1], upload.id)
    await upload.append(pieces(CONTENT[-2:]), last=DIGEST)
    await upload.commit(DIGEST)
    late = await resumed(two[1], upload.id)
    for attempt in (
        late.append(pieces(b"more")),
        late.append(pieces(), last=OTHER),
        late.commit(OTHER),
        late.cancel(),
    ):
        with pytest.raises(BlobUploadUnknown):
            await attempt
    await late.append(pieces(CONTENT[-2:]), last=DIGEST)
    await late.commit(DIGEST)
    with pytest.raises(RegistryError):
        await again.append(pieces(b"more"))
    await two[0].store.aclose()
    assert await is_whole(two[1].store)
    assert bucket.leftovers() == []


@pytest.mark.parametrize("how", ["cancel", "refuse", "append"])
async def test_who_ends_a_session_that_another_has_made_a_blob_of_takes_nothing_away(
    two: tuple[Replica, Replica], bucket: Bucket, how: str
) -> None:
    """He had found it before, and knows nothing of that."""
    upload = await pushed(two[0])
    late = await resumed(two[1], upload.id)
    await commit(upload)
    with pytest.raises((RegistryError, ObjectFailure)):
        if how == "cancel":
            await late.cancel()
        elif how == "refuse":
            await late.commit(OTHER)
        else:
            await late.append(pieces(CONTENT))
    assert await is_whole(two[1].store)
    await two[0].store.aclose()
    assert await is_whole(two[1].store)
    assert (staged(bucket), bucket.leftovers()) == ([], [])


async def test_neither_a_session_that_expires_nor_a_sweep_takes_what_is_staged(
    two: tuple[Replica, Replica], bucket: Bucket
) -> None:
    """Whatever their rules say: it is moved first."""
    upload = await pushed(two[0])
    (state,) = await two[1].store.uploads.all()
    await commit(upload)
    collector = two[1].store
    assert not await collector.uploads.expire(state)
    assert not await collector.blobs.sweep(DIGEST, math.inf, math.inf)
    assert await is_whole(collector)
    await two[0].store.aclose()
    assert await is_whole(collector)
    assert await collector.blobs.sweep(DIGEST, math.inf, math.inf)
    assert await collector.blobs.size(DIGEST) is None


@pytest.mark.parametrize("removes", ["first", "last"])
async def test_a_session_that_is_about_to_expire_is_no_blob(
    two: tuple[Replica, Replica], bucket: Bucket, removes: str
) -> None:
    """Either it ends, and the client is told so, or it is a blob and stays."""
    upload = await pushed(two[0])
    (state,) = await two[1].store.uploads.all()
    step = "begin" if removes == "first" else "complete"
    dialect = two[0].dialect
    doing = dialect.complete if step == "complete" else dialect.put

    async def after_the_other(*given: object, **more: object) -> object:
        for name in ("complete", "put"):
            setattr(dialect, name, originals[name])
        known = (await two[1].store.uploads.all() or [state])[0]
        await two[1].store.uploads.expire(known)
        return await doing(*given, **more)

    originals = {name: getattr(dialect, name) for name in ("complete", "put")}
    setattr(dialect, "complete" if step == "complete" else "put", after_the_other)
    acknowledged = True
    try:
        await commit(upload)
    except (RegistryError, ObjectFailure):
        acknowledged = False
    assert await is_whole(two[1].store) is acknowledged
    await two[0].store.aclose()
    assert await is_whole(two[1].store) is acknowledged
    assert bucket.leftovers() == []


async def test_a_session_that_is_removed_is_not_gone_on_with(
    two: tuple[Replica, Replica], bucket: Bucket
) -> None:
    """Killed in the middle of that: the next collection removes the rest."""
    upload = await pushed(two[0])
    (state,) = await two[1].store.uploads.all()
    two[1].dies_after("PUT", "/state")
    with pytest.raises(ObjectFailure):
        await two[1].store.uploads.expire(state)
    with pytest.raises((BlobUploadUnknown, BlobUploadInvalid)):
        await commit(upload)
    with pytest.raises(BlobUploadUnknown):
        await resumed(two[0], upload.id)
    del upload
    (left,) = await two[0].store.uploads.all()
    assert await two[0].store.uploads.expire(left)
    assert bucket.leftovers() == []


@pytest.mark.parametrize("content", [CONTENT, b"another" + CONTENT])
async def test_a_list_that_lags_hides_no_blob_and_costs_none(
    two: tuple[Replica, Replica], bucket: Bucket, content: bytes
) -> None:
    """Not from a client, another push, or a collection; it is moved by whoever staged it."""
    digest, other = Digest.of(content), two[1].store
    await commit(await pushed(two[0], content), digest)
    listing = two[1].dialect.list

    async def lagging(prefix: str, *, shallow: bool = False) -> AsyncIterator[ObjectPage]:
        async for page in listing(prefix, shallow=shallow):
            if "/staged/" not in prefix:
                yield page

    two[1].dialect.list = lagging
    assert await other.blobs.size(digest) == len(content)
    assert await other.blobs.keep(digest) == len(content)
    assert await is_whole(other, digest, content)
    assert not await other.blobs.sweep(digest, math.inf, math.inf)
    assert await other.uploads.all() == []
    assert await other.staging.all() == []  # type: ignore[attr-defined]  # what a test is about
    again = await pushed(two[1], content)
    await commit(again, digest)
    await other.aclose()  # the second one is moved, the first one stays noted
    assert await is_whole(two[0].store, digest, content)
    assert len(staged(bucket)) == 1
    await two[0].store.aclose()
    assert at_its_key(bucket, digest)
    assert (staged(bucket), bucket.leftovers()) == ([], [])


async def test_a_miss_costs_three_requests_more(two: tuple[Replica, Replica]) -> None:
    """What is moved meanwhile is no miss; and what this process staged itself costs none."""
    await commit(await pushed(two[0]))
    asked: list[str] = []
    mortal = two[0].dialect._connection.ask

    async def counted(request: object) -> object:
        asked.append(str(request))
        return await mortal(request)

    two[0].dialect._connection.ask = counted
    assert await two[0].store.blobs.size(OTHER) is None
    assert len(asked) == 4
    asked.clear()
    assert await two[0].store.blobs.size(DIGEST) == len(CONTENT)
    assert asked == []


@pytest.mark.parametrize("answered", [True, False])
async def test_a_kill_at_any_request_loses_nothing_and_leaves_nothing(
    replicas: Callable[[], Awaitable[Mortal]],
    bucket: Bucket,
    clean: Callable[[], Awaitable[None]],
    answered: bool,
) -> None:
    """Of a commit and of the move behind it, before the request is done or after it.

    The client goes on at another replica, where everything acknowledged is found, and the next
    collection ends what the dead one began.
    """
    other, done, told = await replicas(), 0, 0
    for number in range(1, _MOST):
        content = number.to_bytes(4, "big") + CONTENT
        digest = Digest.of(content)
        mortal = await replicas()
        upload = await pushed(mortal, content)
        mortal.dies_in(number)
        if not answered:
            mortal.unheard = True
        acknowledged = False
        try:
            await commit(upload, digest)
            acknowledged = True
        except (ObjectFailure, RegistryError):
            assert mortal.dead
        await mortal.store.aclose()
        if acknowledged:
            assert await is_whole(other.store, digest, content), number
            told += 1
        again = None
        try:
            again = await resumed(other, upload.id)
            await commit(again, digest)
        except RegistryError:
            assert acknowledged, number
        assert await is_whole(other.store, digest, content), number
        done = number
        if not mortal.dead:
            break
    assert not mortal.dead
    assert 5 < told < done
    await other.store.aclose()
    await clean()
    assert (staged(bucket), bucket.leftovers()) == ([], [])


async def test_what_a_dead_process_staged_is_moved_by_the_next_one(
    two: tuple[Replica, Replica], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By any replica that looks for it, while it serves."""
    await commit(await pushed(two[0]))
    two[0].dead = True
    await two[0].store.aclose()
    assert len(staged(bucket)) == 1
    for name, value in {"_LEFT": -2, "_FIRST_LOOK": 0.0, "_QUIET": 0.0}.items():
        monkeypatch.setattr(f"buildset_registry.store.objects.staging.{name}", value)
    two[1].store.staging.start()  # type: ignore[attr-defined]  # what a test is about
    await until(lambda: bucket.leftovers() == [])
    assert at_its_key(bucket)
    assert staged(bucket) == []
    assert await is_whole(two[1].store)


@pytest.mark.parametrize("how", ["size", "keep", "read"])
async def test_a_blob_that_is_moved_between_two_looks_is_found(
    two: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It is not at its key yet, and then there is no note any more: it was never away."""
    await commit(await pushed(two[0]))
    staging = two[1].store.staging  # type: ignore[attr-defined]  # what a test is about
    find = staging.find

    async def late(digest: Digest) -> object:
        await two[0].store.staging.aclose()  # type: ignore[attr-defined]
        return await find(digest)

    monkeypatch.setattr(staging, "find", late)
    blobs = two[1].store.blobs
    if how == "read":
        assert await blobs.read(DIGEST) == CONTENT
    else:
        assert await getattr(blobs, how)(DIGEST) == len(CONTENT)


async def test_what_was_refused_beside_a_removal_is_promised_to_nobody(
    two: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The note came too late for the one, and the removal too late for the other."""
    upload = await pushed(two[0])
    finish, abandon = two[0].dialect.complete, two[1].dialect.abort
    removal: list[asyncio.Task[bool]] = []
    looked, refused = asyncio.Event(), asyncio.Event()

    async def expiring(*given: object, **more: object) -> None:
        await finish(*given, **more)
        (state,) = await two[1].store.uploads.all()
        removal.append(asyncio.ensure_future(two[1].store.uploads.expire(state)))
        await looked.wait()

    async def later(given: object) -> None:
        looked.set()
        await refused.wait()
        await abandon(given)

    monkeypatch.setattr(two[0].dialect, "complete", expiring)
    monkeypatch.setattr(two[1].dialect, "abort", later)
    with pytest.raises(BlobUploadInvalid):
        await commit(upload)
    refused.set()
    assert await removal[0]
    for replica in two:
        assert await replica.store.blobs.keep(DIGEST) is None
        assert await replica.store.blobs.open(DIGEST) is None
