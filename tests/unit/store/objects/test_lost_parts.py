# SPDX-License-Identifier: Apache-2.0
"""A part that a service does not take: no blob lacks it, whoever has left by the time.

The digest of a session is of all that arrived. A part that failed behind the back of who asked for
it was missing in what was put together, and the digest was right all the same.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest
from buildset_registry.config import Config
from buildset_registry.errors import BlobUploadUnknown
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, UploadId
from buildset_registry.store import open_store
from buildset_registry.store.base import Store, Upload
from buildset_registry.store.objects.dialect import Body, ObjectFailure
from buildset_registry.store.objects.sessions import STATE, SessionState, new_id

from tests.stores.fixtures import ObjectStores
from tests.unit.store.blobs import broken, pieces
from tests.unit.store.kinds import azure, gcs, oss, s3, swift
from tests.unit.store.objects.test_staging import is_whole

NAME = RepositoryName("org/app")
MIB = 1024 * 1024
SERVICES: Mapping[str, Callable[[ObjectStores], Config]] = {
    "azure": lambda servers: azure(servers.azurite),
    "gcs": lambda servers: gcs(servers.fake_gcs, chunksize=MIB),
    "oss": lambda servers: oss(servers.fake_oss, chunksize=5 * MIB),
    "s3": lambda servers: s3(servers.minio, chunksize=5 * MIB),
    "swift": lambda servers: swift(servers.swift, chunksize=2 * MIB),
}


@dataclass
class Service:
    """A store, and what it asks its service for; content of a part and some more."""

    store: Store
    content: bytes = b""

    def __post_init__(self) -> None:
        self.places: Any = self.store.uploads._places  # type: ignore[attr-defined]  # what a test is about
        self.part: int = self.places.dialect.abilities.part_size
        self.content = os.urandom(MIB) * (self.part // MIB + 2)

    async def goes_on(self, upload_id: UploadId, known: int) -> None:
        """Send the rest of a session of which so many bytes are known: it becomes the blob."""
        again = await self.store.uploads.resume(NAME, upload_id)
        assert again.size == known
        await again.append(pieces(self.content[known:]))
        await self.becomes_the_blob(again)

    async def becomes_the_blob(self, upload: Upload) -> None:
        """Commit what has arrived, and read it back."""
        digest = Digest.of(self.content)
        await upload.commit(digest)
        assert await is_whole(self.store, digest, self.content)


class Refused:
    """A part that the service refuses once, as soon as it may."""

    def __init__(self, service: Service, number: int = 1) -> None:
        self._dialect = service.places.dialect
        self._put_part = self._dialect.put_part
        self._dialect.put_part = self._refuse
        self._number = number
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    async def _refuse(self, upload: object, number: int, content: Body) -> object:
        if number != self._number:
            return await self._put_part(upload, number, content)
        self._dialect.put_part = self._put_part
        self.asked.set()
        await self.may.wait()
        raise ObjectFailure("the object store answers 400: BadDigest")

    async def while_cancelled(self, upload: Upload, *content: bytes) -> None:
        """Send content, and be cancelled before the part is refused."""
        sending = asyncio.ensure_future(upload.append(pieces(*content)))
        await self.asked.wait()
        sending.cancel()
        await asyncio.sleep(0)
        self.may.set()
        with pytest.raises(asyncio.CancelledError):
            await sending


@pytest.fixture(params=list(SERVICES))
async def service(
    request: pytest.FixtureRequest, object_stores: ObjectStores
) -> AsyncIterator[Service]:
    async with aclosing(await open_store(SERVICES[request.param](object_stores))) as store:
        yield Service(store)


@pytest.mark.parametrize("known", [0, 5])
async def test_a_client_that_leaves_while_a_part_fails_is_told_of_nothing_of_it(
    service: Service, known: int
) -> None:
    """The part is on its way when the client goes; it goes on from what it was told before."""
    content, end = service.content, known + service.part
    upload = await service.store.uploads.create(NAME)
    if known:
        await upload.append(pieces(content[:known]))
    Refused(service).may.set()
    with pytest.raises(OSError, match=r"left|BadDigest"):
        await upload.append(
            broken(ConnectionError("left"), content[known:end], content[end : end + 5])
        )
    await service.goes_on(upload.id, known)


async def test_a_request_that_is_cancelled_while_a_part_fails_leaves_nothing_of_it(
    service: Service,
) -> None:
    """It waits for its parts, and is told of its own end instead of theirs."""
    upload = await service.store.uploads.create(NAME)
    await Refused(service).while_cancelled(upload, service.content[: service.part + 5])
    await service.goes_on(upload.id, 0)


@pytest.mark.parametrize("service", ["swift"], indirect=True)
async def test_a_request_that_is_cancelled_while_its_rest_fails_leaves_nothing_of_it(
    service: Service,
) -> None:
    """Where the rest of a request is a part of its own, it is sent when the request has ended."""
    upload = await service.store.uploads.create(NAME)
    await Refused(service, 2).while_cancelled(upload, service.content[: service.part + MIB])
    await service.goes_on(upload.id, 0)


@pytest.mark.parametrize("what", ["part", "rest"])
async def test_no_blob_is_made_of_what_lacks_something(service: Service, what: str) -> None:
    """However it was lost here, and though the digest is right; what is stored is the session."""
    upload = await service.store.uploads.create(NAME)
    if what == "rest":
        service.content = b"small"
    await upload.append(pieces(service.content))
    writer: Any = upload._writer  # type: ignore[attr-defined]  # what a test is about
    if what == "rest":
        writer.drop()
    else:
        writer.parts.pop()
    with pytest.raises(ObjectFailure, match="was not stored; send it again"):
        await upload.commit(Digest.of(service.content))
    assert await service.store.blobs.size(Digest.of(service.content)) is None
    again = await service.store.uploads.resume(NAME, upload.id)
    assert again.size == len(service.content)
    await service.becomes_the_blob(again)


async def test_a_session_that_lacks_something_is_none(service: Service) -> None:
    """As an earlier release may have left it: its client begins anew."""
    upload_id = new_id(NAME)
    key = f"{service.places.keys.upload(NAME, upload_id)}{STATE}"
    await service.places.dialect.put(key, SessionState(8).encode(Body(5, (b"small",))))
    with pytest.raises(BlobUploadUnknown):
        await service.store.uploads.resume(NAME, upload_id)
