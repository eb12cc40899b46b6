# SPDX-License-Identifier: Apache-2.0
"""Two replicas that end one upload at once, each for a client that sent it another last byte."""

from collections.abc import AsyncIterator, Callable

import pytest
from buildset_registry.config import Config
from buildset_registry.errors import RegistryError
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.store.base import Store, Upload
from buildset_registry.store.objects.dialect import ObjectFailure

from tests.stores.fixtures import ObjectStores
from tests.unit.store.blobs import content_of, pieces
from tests.unit.store.kinds import azure, replicas_of, s3, swift

NAME = RepositoryName("org/app")
MIB = 1024 * 1024
#: At least a part of each service.
MOST = bytes(8 * MIB)
SERVICES: dict[str, Callable[[ObjectStores], Config]] = {
    "azure": lambda servers: azure(servers.azurite),
    "s3": lambda servers: s3(servers.minio),
    "swift": lambda servers: swift(servers.swift, chunksize=MIB),
}


@pytest.fixture(params=list(SERVICES))
async def two(
    request: pytest.FixtureRequest, object_stores: ObjectStores
) -> AsyncIterator[tuple[Store, Store]]:
    """Two replicas on one bucket."""
    async with replicas_of(SERVICES[request.param](object_stores), 2) as (one, other):
        yield one, other


async def ready(store: Store, upload: Upload, last: bytes) -> tuple[Upload, Digest]:
    """Have a replica go on with an upload up to what ends it."""
    digest = Digest.of(MOST + last)
    again = await store.uploads.resume(NAME, upload.id)
    await again.append(pieces(last), last=digest)
    return again, digest


@pytest.mark.parametrize("first", ["complete", "move"])
async def test_nothing_has_the_digest_of_something_else(
    two: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Whatever becomes of both: before one puts the parts together, or before it moves them.

    Where nothing is moved, before it sends the last part.
    """
    upload = await two[0].uploads.create(NAME)
    await upload.append(pieces(MOST))
    ours, one = await ready(two[0], upload, b"1")
    theirs, other = await ready(two[1], upload, b"2")
    dialect = two[0].uploads._places.dialect  # type: ignore[attr-defined]
    moves = not dialect.abilities.renames
    name = first if moves or first == "complete" else "put_part"
    step = getattr(dialect, name)

    met = []

    async def after_the_other(*given: object, **more: object) -> object:
        monkeypatch.undo()
        met.append(first)
        with pytest.raises((RegistryError, ObjectFailure)):
            await theirs.commit(other)
            raise ObjectFailure("it was the first")
        return await step(*given, **more)

    monkeypatch.setattr(dialect, name, after_the_other)
    failed: Exception | None = None
    try:
        await ours.commit(one)
        await two[0].staging.aclose()  # type: ignore[attr-defined]  # some move it later
    except (RegistryError, ObjectFailure) as error:
        failed = error
    assert met
    for digest, content in ((one, MOST + b"1"), (other, MOST + b"2")):
        blob = await two[0].blobs.open(digest)
        assert blob is None or await content_of(blob) == content
    assert failed is None or name != "move"
