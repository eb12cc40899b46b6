# SPDX-License-Identifier: Apache-2.0
"""A mirror that begins to send a blob, and sends something else than the blob."""

from collections.abc import AsyncIterator

import pytest
from buildset_registry.errors import UpstreamFailed
from buildset_registry.pullthrough import Pace, PullThrough
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem.store import FilesystemStore

from tests.unit.pullthrough.reading import read
from tests.unit.upstream.lab import (
    BLOB,
    BLOB_DIGEST,
    BLOB_PATH,
    NAME,
    Connect,
    Server,
    blob,
    breaking,
    reply,
)


@pytest.fixture
async def mirrored(
    store: FilesystemStore, storage: Server, connect: Connect
) -> AsyncIterator[Registry]:
    """A registry that asks a mirror of quay.io first."""
    pull_through = PullThrough(store, connect(mirror=storage.url), pace=Pace(piece=1000, pause=0))
    yield Registry(store, pull_through)
    await pull_through.close()


async def test_what_a_mirror_breaks_off_goes_on_at_the_upstream(
    mirrored: Registry, quay: Server, storage: Server
) -> None:
    """It answers each request well, and sends no more than before."""
    storage.on(BLOB_PATH, breaking(BLOB, 3000))
    quay.on(BLOB_PATH, blob())
    assert await read(await mirrored.blob(NAME, BLOB_DIGEST)) == BLOB
    assert [asked.headers.get("Range") for asked in quay.asked] == ["bytes=3000-"]


@pytest.mark.parametrize("wrong", [BLOB[::-1], BLOB[:-1], b""], ids=["other", "short", "empty"])
async def test_what_a_mirror_has_damaged_is_had_from_the_upstream(
    mirrored: Registry, quay: Server, storage: Server, wrong: bytes
) -> None:
    """Not before it is known to be damaged: clients have read it by then, and ask again."""
    storage.on(BLOB_PATH, blob(wrong))
    quay.on(BLOB_PATH, blob())
    with pytest.raises(UpstreamFailed, match="what it sends has another digest"):
        await read(await mirrored.blob(NAME, BLOB_DIGEST))
    assert await read(await mirrored.blob(NAME, BLOB_DIGEST)) == BLOB


async def test_a_mirror_goes_on_where_there_is_no_upstream(
    mirrored: Registry, quay: Server, storage: Server
) -> None:
    """Some sites reach their mirror alone."""
    storage.on(BLOB_PATH, breaking(BLOB, 3000), blob())
    quay.on(BLOB_PATH, reply(403))
    assert await read(await mirrored.blob(NAME, BLOB_DIGEST)) == BLOB
    assert len(storage.asked) == 2
    assert [asked.headers.get("Range") for asked in quay.asked] == ["bytes=3000-"]
