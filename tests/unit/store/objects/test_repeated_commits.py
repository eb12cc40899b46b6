# SPDX-License-Identifier: Apache-2.0
"""A last request that failed, since the service did, is sent again and needs no content."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import pytest
from buildset_registry.config import Config
from buildset_registry.oci.digest import Digest
from buildset_registry.store import open_store
from buildset_registry.store.base import Store
from buildset_registry.store.objects.connection import ServiceAnswer, ServiceRequest
from buildset_registry.store.objects.dialect import ObjectFailure

from tests.stores.fixtures import ObjectStores
from tests.unit.store.blobs import pieces
from tests.unit.store.kinds import azure, s3, swift
from tests.unit.store.objects.test_kills import PART, Replica, resumed
from tests.unit.store.objects.test_staging import commit, is_whole, pushed

MIB = 1024 * 1024
#: How each is configured, and the bytes of a part.
SERVICES: dict[str, tuple[Callable[[ObjectStores], Config], int]] = {
    "azure": (lambda servers: azure(servers.azurite), 4 * MIB),
    "s3": (lambda servers: s3(servers.minio, chunksize=PART), PART),
    "swift": (lambda servers: swift(servers.swift, chunksize=MIB), MIB),
}
#: More requests than a commit takes.
_MOST = 40


class Failing(Replica):
    """A replica of which some request fails, however often it is tried."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._left = 0
        self.flying: Counter[str] = Counter()
        """How often a URL is asked for at the moment."""

    def fails_at(self, number: int) -> None:
        """Have the request of a number fail, and none behind it."""
        self._left = number

    async def _mortal(self, request: ServiceRequest) -> ServiceAnswer:
        self._left -= 1
        if self._left == 0:
            raise ObjectFailure("the object store answers 503")
        self.flying[request.url] += 1
        try:
            answer: ServiceAnswer = await self._ask(request)
            return answer
        finally:
            self.flying[request.url] -= 1

    def asks_for(self, words: str) -> list[str]:
        """Return the URLs with some words of requests that are under way."""
        return [url for url in +self.flying if words in url]

    def recovers(self) -> bool:
        """Have no request fail any more; tell whether one did."""
        failed, self._left = self._left <= 0, 0
        return failed


@pytest.fixture(params=list(SERVICES))
async def replica(
    request: pytest.FixtureRequest, object_stores: ObjectStores
) -> AsyncIterator[tuple[Failing, int]]:
    """A replica, and the bytes of a part."""
    config, part = SERVICES[request.param]
    async with aclosing(await open_store(config(object_stores))) as store:
        yield Failing(store), part


async def each_fails(
    replica: tuple[Failing, int],
    end: Callable[[Failing, bytes, int], Awaitable[bool]],
) -> None:
    """Have an upload end while each of its requests fails in turn, and then while none does.

    ``end`` is given the content and the number of the request that is to fail, and tells whether
    its client was told of the blob at once.
    """
    failing, part = replica
    told = 0
    for number in range(1, _MOST):
        content = number.to_bytes(4, "big") + bytes(part)
        told += await end(failing, content, number)
        failed = failing.recovers()
        assert await is_whole(failing.store, Digest.of(content), content), number
        if not failed:
            break
    assert told
    assert 3 < number < _MOST - 1


async def test_a_last_request_that_fails_is_repeated_without_the_content(
    replica: tuple[Failing, int],
) -> None:
    """Whichever of its own requests failed, and at the replica that tried to undo the rest."""

    async def end(failing: Failing, content: bytes, number: int) -> bool:
        digest, upload = Digest.of(content), await pushed(failing, content)
        failing.fails_at(number)
        try:
            await commit(upload, digest)
        except ObjectFailure:
            assert failing.asks_for(upload.id) == [], number
            again = await resumed(failing, upload.id)
            assert again.size == len(content), number
            await commit(again, digest)
            return False
        return True

    await each_fails(replica, end)


@pytest.mark.parametrize("replica", ["s3"], indirect=True)
async def test_a_last_request_that_begins_the_parts_and_fails_is_repeated(
    replica: tuple[Failing, int],
) -> None:
    """Whichever of its own requests failed: the parts that the bucket tells of are there."""

    async def end(failing: Failing, content: bytes, number: int) -> bool:
        digest, upload = Digest.of(content), await pushed(failing, content[:2])
        await upload.append(pieces(content[2:]), last=digest)
        failing.fails_at(number)
        try:
            await upload.commit(digest)
        except ObjectFailure:
            again = await resumed(failing, upload.id)
            assert again.size in {2, len(content)}, number
            await again.append(pieces(content[again.size :]), last=digest)
            await again.commit(digest)
            return False
        return True

    await each_fails(replica, end)
