# SPDX-License-Identifier: Apache-2.0
"""Blobs whose parts stay where they were sent, and find their key at the end: Swift's segments."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from buildset_registry.config import Config
from buildset_registry.errors import RegistryError
from buildset_registry.oci.digest import Digest
from buildset_registry.store.objects.connection import ServiceAnswer, ServiceRequest
from buildset_registry.store.objects.dialect import Body, ObjectFailure, ObjectPart, PartUpload

from tests.stores.fixtures import ObjectStores
from tests.unit.store.blobs import pieces
from tests.unit.store.kinds import swift
from tests.unit.store.objects.test_kills import Replica, clean, resumed, two
from tests.unit.store.objects.test_staging import commit, is_whole, pushed

__all__ = ["clean", "two"]

MIB = 1024 * 1024
SEGMENT = 3 * MIB // 2
#: Two segments, and a rest that is none before the last request.
CONTENT = bytes(range(256)) * (12 * 1024) + b"end"
DIGEST = Digest.of(CONTENT)
#: More requests than a commit takes.
_MOST = 40


@pytest.fixture
def config(object_stores: ObjectStores) -> Config:
    return swift(object_stores.swift, chunksize=SEGMENT)


@pytest.fixture
def names(object_stores: ObjectStores, config: Config) -> Callable[[str], list[str]]:
    """Lists the objects of the container that have something in their names."""

    def listed(part: str) -> list[str]:
        path = f"/{config.storage.swift.container}"  # type: ignore[union-attr]
        answer = object_stores.swift.ask("GET", path, params={"format": "json"})
        return [one["name"] for one in answer.json() if part in one["name"]]

    return listed


def asked(replica: Replica) -> list[ServiceRequest]:
    """Return a list that has each request from now on."""
    known: list[ServiceRequest] = []
    ask = replica._connection.ask

    async def noting(request: ServiceRequest) -> ServiceAnswer:
        known.append(request)
        answer: ServiceAnswer = await ask(request)
        return answer

    replica._connection.ask = noting
    return known


async def test_no_byte_is_sent_twice(
    two: tuple[Replica, Replica], names: Callable[[str], list[str]]
) -> None:
    """Not the rest of a request, which is a segment of its own; the last one costs 13 requests."""
    requests = asked(two[0])
    content = CONTENT + bytes(MIB)
    upload = await pushed(two[0], content)
    before = len(requests)
    await commit(upload, Digest.of(content))
    assert await is_whole(two[1].store, Digest.of(content), content)
    sent = sum(one.body.size for one in requests if one.body is not None)
    assert len(content) < sent < len(content) + 8192
    assert len(requests) - before <= 13
    assert len(names("segments/")) == 3 + 1  # and whose they are
    assert names("_uploads") == []


async def test_three_segments_are_on_their_way_at_once(two: tuple[Replica, Replica]) -> None:
    """As many as the memory for parts has room for, by default."""
    dialect, running, most = two[0].dialect, [0], [0]
    put_part = dialect.put_part

    async def counted(upload: PartUpload, number: int, content: Body) -> ObjectPart:
        running[0] += 1
        most[0] = max(most[0], running[0])
        try:
            part: ObjectPart = await put_part(upload, number, content)
            return part
        finally:
            running[0] -= 1

    dialect.put_part = counted
    await pushed(two[0], bytes(6 * SEGMENT))
    assert most == [3]


@pytest.mark.parametrize("answered", [True, False])
async def test_a_kill_at_any_request_of_a_commit_loses_nothing_and_leaves_nothing(
    two: tuple[Replica, Replica],
    names: Callable[[str], list[str]],
    clean: Callable[[], Awaitable[None]],
    answered: bool,
) -> None:
    """Before the request is done or after it; the client goes on at another replica, or anew."""
    mortal, other = two
    for number in range(1, _MOST):
        content = number.to_bytes(4, "big") + CONTENT[-SEGMENT:]
        digest = Digest.of(content)
        upload = await pushed(mortal, content)
        left = [number]

        def last(_request: object, left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] == 0

        mortal._last, mortal.unheard = last, not answered
        try:
            await commit(upload, digest)
        except (ObjectFailure, RegistryError):
            try:
                await commit(await resumed(other, upload.id), digest)
            except RegistryError:  # all of it was done, and nobody knows the session any more
                await commit(await pushed(other, content), digest)
        assert await is_whole(other.store, digest, content)
        mortal._last = lambda _request: False
        if not mortal.dead:
            break
        mortal.dead = False
    assert 5 < number < _MOST - 1
    await clean()
    assert names("segments/") == names("_uploads") == names("/blobs/") == []


async def test_a_last_request_that_comes_twice_makes_one_blob(
    two: tuple[Replica, Replica], names: Callable[[str], list[str]]
) -> None:
    """A proxy sends it to another replica, while the first goes on: both have the same segments."""
    upload = await pushed(two[0], CONTENT)
    again = await resumed(two[1], upload.id)
    await asyncio.gather(commit(upload, DIGEST), commit(again, DIGEST))
    assert await is_whole(two[1].store, DIGEST, CONTENT)
    assert len(names("segments/")) == 3 + 1
    assert await two[0].store.blobs.sweep(DIGEST, 2**40, 2**40)
    assert names("segments/") == names("_uploads") == []


async def test_segments_are_no_second_blob(two: tuple[Replica, Replica]) -> None:
    """Of a session that ended as another blob, whose removal would take them away."""
    upload = await pushed(two[0], CONTENT)
    longer = Digest.of(CONTENT + b"more")
    late = await resumed(two[1], upload.id)
    await late.append(pieces(b"more"), last=longer)
    await commit(upload, DIGEST)
    with pytest.raises((RegistryError, ObjectFailure)):
        await late.commit(longer)
    assert await two[1].store.blobs.size(longer) is None
    assert await is_whole(two[1].store, DIGEST, CONTENT)


async def test_a_commit_that_failed_is_repeated_without_the_content(
    two: tuple[Replica, Replica],
) -> None:
    """At the same replica or at another one, as long as Swift refuses the manifest."""
    upload = await pushed(two[0], CONTENT)
    put_manifest = two[0].dialect.large._put_manifest

    async def refused(*_given: object) -> str:
        raise ObjectFailure("the object store answers 503")

    two[0].dialect.large._put_manifest = refused
    for _again in range(2):
        with pytest.raises(ObjectFailure, match="503"):
            await commit(await resumed(two[0], upload.id), DIGEST)
    two[0].dialect.large._put_manifest = put_manifest
    await commit(await resumed(two[1], upload.id), DIGEST)
    assert await is_whole(two[0].store, DIGEST, CONTENT)
