# SPDX-License-Identifier: Apache-2.0
"""A disk that takes nothing: what is here, and what upstream sends whole, is served."""

import errno
from collections.abc import Callable

import pytest
from buildset_registry.errors import ManifestUnknown
from buildset_registry.pullthrough import Freshness
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem.disk import Disk
from buildset_registry.store.filesystem.store import FilesystemStore
from buildset_registry.upstream.client import UpstreamClient

from tests.unit.pullthrough.reading import (
    ALL,
    OTHER,
    OTHER_PATH,
    PullingRegistry,
    arriving,
    read,
)
from tests.unit.upstream.lab import (
    BLOB,
    BLOB_DIGEST,
    MANIFEST,
    NAME,
    V1,
    V1_PATH,
    Server,
    blob,
    manifest,
    reply,
)

NEWER = b'{"schemaVersion": 2, "manifests": [], "annotations": {"newer": "yes"}}'


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have nothing written or removed from then on: somebody else has filled the disk."""

    async def full(*_given: object, **_named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def begin() -> None:
        monkeypatch.setattr(Disk, "write", full)
        monkeypatch.setattr(Disk, "remove_if", full)

    return begin


async def test_a_manifest_is_served_and_not_stored(
    registry: Registry, quay: Server, fail: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    """As where less is free than is to stay free."""
    fail()
    for _ in range(2):
        assert (await registry.manifest(NAME, V1)).raw == MANIFEST
    assert len(quay.at(V1_PATH)) == 2
    assert f"{NAME}:{V1} is served and not stored: [Errno 28]" in caplog.text


async def test_a_tag_that_has_moved_or_gone_is_told_as_it_is(
    store: FilesystemStore,
    quay: Server,
    connect: Callable[..., UpstreamClient],
    fail: Callable[[], None],
) -> None:
    quay.on(V1_PATH, manifest())
    registry = PullingRegistry(store, connect(), Freshness(tag_seconds=0))
    try:
        await registry.manifest(NAME, V1)
        fail()
        quay.on(V1_PATH, manifest(NEWER))
        assert (await registry.manifest(NAME, V1)).raw == NEWER
        quay.on(V1_PATH, reply(404))
        with pytest.raises(ManifestUnknown):
            await registry.manifest(NAME, V1)
    finally:
        await registry.close()


async def test_a_blob_that_another_repository_has_is_served(
    registry: Registry, quay: Server, fail: Callable[[], None]
) -> None:
    """It is not linked then, and upstream is asked again."""
    await arriving(await registry.blob(NAME, BLOB_DIGEST)).complete()
    quay.on(OTHER_PATH, blob())
    fail()
    for _ in range(2):
        assert await read(await registry.blob(OTHER, BLOB_DIGEST, ALL)) == BLOB
    assert [asked.method for asked in quay.at(OTHER_PATH)] == ["HEAD", "HEAD"]
