# SPDX-License-Identifier: Apache-2.0
"""Replicas that are killed at a certain request: two days later nothing of an upload is left.

MinIO tells of uploads in parts by their exact keys only, so each key has to be known.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing

import pytest
from buildset_registry.config import Config, Endpoints, S3Settings, StorageSettings
from buildset_registry.errors import RegistryError
from buildset_registry.gc import CollectionRules, Collector
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag, UploadId
from buildset_registry.store import open_store
from buildset_registry.store.base import Store, Upload
from buildset_registry.store.objects import keys
from buildset_registry.store.objects.connection import ServiceAnswer, ServiceRequest
from buildset_registry.store.objects.dialect import ObjectFailure

from tests.stores.buckets import Bucket
from tests.stores.fixtures import ObjectStores
from tests.unit.store.blobs import pieces

NAME, TAG = RepositoryName("org/app"), Tag("v1")
PART = 5 * 1024 * 1024
#: A part and a rest; it is copied in parts, too.
CONTENT = os.urandom(PART) + b"end"
DIGEST = Digest.of(CONTENT)
DAYS = 2 * 24 * 3600


class Replica:
    """A store of a process that may be killed: then it asks for nothing any more."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.dialect = store.uploads._places.dialect  # type: ignore[attr-defined]  # what a test is about
        self.dead = False
        self.unheard = False
        """Whether the last request is not done any more."""

        holder = getattr(self.dialect, "_container", self.dialect)
        self._connection = holder._connection
        self._ask = self._connection.ask
        self._connection.ask = self._mortal
        self._last: Callable[[ServiceRequest], bool] = lambda _request: False
        self._before: Callable[[], Awaitable[None]] | None = None

    def dies_after(
        self, method: str, words: str, before: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Have it killed after the next request of a method to a URL with some words."""
        self._last = lambda request: request.method == method and words in request.url
        self._before = before

    async def _mortal(self, request: ServiceRequest) -> ServiceAnswer:
        if self.dead:
            raise ObjectFailure("killed")
        last = self._last(request)
        if last and self._before is not None:
            await self._before()
        if last and self.unheard:
            self.dead = True
            raise ObjectFailure("killed")
        answer: ServiceAnswer = await self._ask(request)
        if last:
            self.dead = True
            raise ObjectFailure("killed")
        return answer

    async def fails(self, doing: Awaitable[None]) -> None:
        """Do what it does not survive."""
        with pytest.raises((ObjectFailure, RegistryError)):
            await doing
        assert self.dead


@pytest.fixture
def bucket(object_stores: ObjectStores) -> Bucket:
    return Bucket(object_stores.minio)


@pytest.fixture
def config(bucket: Bucket) -> Config:
    given = bucket.server.settings(
        bucket.name, chunksize=PART, multipartcopythresholdsize=PART, multipartcopychunksize=PART
    )
    settings = S3Settings(**given)  # type: ignore[arg-type]  # what a test is about
    return Config(endpoints=Endpoints(), storage=StorageSettings(s3=settings))


@pytest.fixture
async def two(config: Config) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two replicas on one bucket."""
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(aclosing(await open_store(config))) for _ in "12"]
        yield Replica(opened[0]), Replica(opened[1])


class Later:
    """A clock of two days later."""

    @staticmethod
    def time() -> float:
        return time.time() + DAYS


@pytest.fixture
def clean(config: Config, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[None]]:
    """Collects two days later."""

    async def collect() -> None:
        rules = CollectionRules(grace=60, untagged=60, uploads=60, cache_size=None)
        async with aclosing(await open_store(config)) as store:
            with monkeypatch.context() as later:
                for module in ("gc.state", "store.objects.clock"):
                    later.setattr(f"buildset_registry.{module}.time", Later)
                later.setattr(type(store.uploads._places.clock), "compare", _not_compared)  # type: ignore[attr-defined]
                await Collector(store, rules, 0).run(lambda _progress: None, dry_run=False)

    return collect


async def _not_compared(*_given: object) -> None:
    """The service's clock is of today."""


async def next_second() -> None:
    """Wait until the service's clock shows another second."""
    await asyncio.sleep(1.01 - time.time() % 1)


async def resumed(replica: Replica, upload_id: UploadId) -> Upload:
    return await replica.store.uploads.resume(NAME, upload_id)


@pytest.mark.parametrize("begun", [False, True])
async def test_parts_at_a_blobs_key_are_found_by_what_was_noted(
    two: tuple[Replica, Replica],
    bucket: Bucket,
    clean: Callable[[], Awaitable[None]],
    begun: bool,
) -> None:
    """Killed when they were begun, a second after the note, in a session that may be there."""
    upload = await two[0].store.uploads.create(NAME)
    if begun:
        await upload.append(pieces(b""))
    two[0].dies_after("POST", "uploads", next_second)
    await two[0].fails(upload.append(pieces(CONTENT), last=DIGEST))
    assert "parts" in bucket.leftovers()
    await clean()
    assert bucket.leftovers() == []


@pytest.mark.parametrize("known", [b"", b"begun"])
@pytest.mark.parametrize("ended", ["commit", "cancel"])
async def test_parts_that_another_replica_began_go_with_the_session(
    two: tuple[Replica, Replica], bucket: Bucket, known: bytes, ended: str
) -> None:
    """Killed before it could tell by which name the service knows them."""
    content = known + CONTENT
    upload = await two[0].store.uploads.create(NAME)
    if known:
        await upload.append(pieces(known))
    two[0].dies_after("POST", "uploads")
    await two[0].fails(upload.append(pieces(CONTENT)))
    again = await resumed(two[1], upload.id)
    assert again.size == len(known)
    if ended == "commit":
        await again.append(pieces(content[again.size :]))
        await again.commit(Digest.of(content))
        assert await two[1].store.blobs.size(Digest.of(content)) == len(content)
        await two[1].store.aclose()  # what was staged is moved
    else:
        await again.cancel()
    assert bucket.leftovers() == []


async def test_parts_of_a_put_that_is_sent_again_are_found(
    two: tuple[Replica, Replica], bucket: Bucket, clean: Callable[[], Awaitable[None]]
) -> None:
    """The other replica makes the blob; whose the first parts are is known by then to nobody."""
    upload = await two[0].store.uploads.create(NAME)
    two[0].dies_after("POST", "uploads")
    await two[0].fails(upload.append(pieces(CONTENT), last=DIGEST))
    again = await resumed(two[1], upload.id)
    await again.append(pieces(CONTENT), last=DIGEST)
    await again.commit(DIGEST)
    assert await two[1].store.blobs.size(DIGEST) == len(CONTENT)
    await clean()
    assert bucket.leftovers() == []


async def test_parts_of_a_copy_that_is_made_again_are_found(
    two: tuple[Replica, Replica], bucket: Bucket, clean: Callable[[], Awaitable[None]]
) -> None:
    """Killed while it moved the content to its key; the other one ended the session."""
    upload = await two[0].store.uploads.create(NAME)
    await upload.append(pieces(CONTENT))
    two[0].dies_after("POST", "blobs/sha256")
    await upload.commit(DIGEST)
    await two[0].store.aclose()
    assert two[0].dead
    again = await resumed(two[1], upload.id)
    await again.commit(DIGEST)
    assert await two[1].store.blobs.size(DIGEST) == len(CONTENT)
    await clean()
    assert bucket.leftovers() == []


@pytest.mark.parametrize("last", [None, DIGEST])
async def test_a_client_that_leaves_when_parts_are_begun_leaves_none(
    two: tuple[Replica, Replica], bucket: Bucket, last: Digest | None
) -> None:
    """The service's answer is waited for: without it nobody could end them."""
    replica, begun = two[0], asyncio.Event()
    begin = replica.dialect.begin

    async def slow(key: str) -> object:
        upload = await begin(key)
        begun.set()
        await asyncio.sleep(0.05)
        return upload

    replica.dialect.begin = slow
    upload = await replica.store.uploads.create(NAME)
    sending = asyncio.ensure_future(upload.append(pieces(CONTENT), last=last))
    await begun.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert bucket.leftovers() == []


@pytest.mark.parametrize("last", [None, DIGEST])
async def test_parts_that_were_begun_twice_are_found(
    two: tuple[Replica, Replica],
    bucket: Bucket,
    clean: Callable[[], Awaitable[None]],
    last: Digest | None,
) -> None:
    """The first answer was lost, so the service was asked again."""
    replica = two[0]
    connection = replica.dialect._connection
    once, lost = connection._once, list[ServiceAnswer]()

    async def losing(request: ServiceRequest, *, unsure: bool) -> ServiceAnswer:
        answer: ServiceAnswer = await once(request, unsure=unsure)
        if "uploads=" in request.url and request.method == "POST" and not lost:
            lost.append(answer)
            raise ConnectionResetError
        return answer

    connection._once = losing
    upload = await replica.store.uploads.create(NAME)
    await upload.append(pieces(CONTENT), last=last)
    await upload.commit(DIGEST)
    await replica.store.aclose()
    assert lost
    await clean()
    assert bucket.leftovers() == []


async def set_tag(store: Store) -> None:
    """Set a tag that was not there."""
    await store.pushed(NAME).tags.set(TAG, DIGEST)


async def remove_tag(store: Store) -> None:
    """Remove a tag that another process has set."""
    await store.pushed(NAME).tags.remove(TAG)


@pytest.mark.parametrize(
    ("doing", "method", "words"),
    [(set_tag, "PUT", "/index/"), (remove_tag, "DELETE", "/current/")],
    ids=["set", "removed"],
)
async def test_no_tag_stays_that_leads_nowhere(
    two: tuple[Replica, Replica],
    bucket: Bucket,
    clean: Callable[[], Awaitable[None]],
    doing: Callable[[Store], Awaitable[None]],
    method: str,
    words: str,
) -> None:
    """Killed between its index and its link; what is about to be set is left alone."""
    left = f"_manifests/tags/{TAG}/"
    if doing is remove_tag:
        await set_tag(two[1].store)
    two[0].dies_after(method, words)
    await two[0].fails(doing(two[0].store))
    assert [key for key in bucket.server.keys(bucket.name) if left in key]
    assert await two[1].store.pushed(NAME).tags.prune(time.time() - 60) == 0
    await two[1].store.pushed(NAME).layers.add(DIGEST)
    await clean()
    assert not [key for key in bucket.server.keys(bucket.name) if left in key]
    assert await two[1].store.pushed(NAME).tags.get(TAG) is None


async def test_a_tag_that_leads_somewhere_is_not_pruned(two: tuple[Replica, Replica]) -> None:
    """However old it is, and without an index, as other programs may leave it."""
    tags, others = two[0].store.pushed(NAME).tags, two[1].store.pushed(NAME).tags
    await two[0].store.pushed(NAME).manifests.add(DIGEST)
    await tags.set(TAG, DIGEST)
    assert await others.prune(time.time() + DAYS) == 0
    await two[0].dialect.delete(keys.link(keys.tag_index(tags._folder, TAG), DIGEST))  # type: ignore[attr-defined]  # what a test is about
    assert await others.prune(time.time() + DAYS) == 0
    target = await others.get(TAG)
    assert target is not None and target.digest == DIGEST
