# SPDX-License-Identifier: Apache-2.0
"""Uses of images on their way to the store."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import buildset_registry.retention.uses
import pytest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.registry import Registry
from buildset_registry.retention import Uses
from buildset_registry.store.base import Store
from buildset_registry.store.memory.store import MemoryStore

from tests.unit.gc.images import NAME, OTHER, digest_of, push_image


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with aclosing(MemoryStore()) as made:
        yield made


async def signs() -> None:
    """Sign nothing."""


async def used(store: Store, digest: Digest) -> float:
    return next(
        one.used for one in await store.pushed(NAME).manifests.all() if one.digest == digest
    )


async def test_a_use_is_written_once_an_hour(store: Store) -> None:
    """Not when it is added, which a request does."""
    image = digest_of(await push_image(Registry(store), "one"))
    uses, before = Uses(store, signs), await used(store, image)
    uses.add(NAME, str(image))
    assert await used(store, image) == before
    assert uses.is_waiting(NAME, [image])
    assert not uses.is_waiting(OTHER, [image])
    await uses.flush()
    first = await used(store, image)
    assert first > before
    assert not uses.is_waiting(NAME, [image])
    uses.add(NAME, str(image))
    await uses.flush()
    assert await used(store, image) == first
    soon = Uses(store, signs, noted=0)
    soon.add(NAME, str(image))
    await soon.flush()
    assert await used(store, image) > first


async def test_a_use_by_another_name_of_an_image_counts(store: Store) -> None:
    """Docker Hub's images have two."""
    image = digest_of(await push_image(Registry(store), "one", name=RepositoryName("library/app")))
    index = store.pushed(RepositoryName("library/app"))
    before = (await index.manifests.all())[0].used
    uses = Uses(store, signs)
    uses.add(RepositoryName("app"), str(image))
    assert uses.is_waiting(RepositoryName("library/app"), [image])
    await uses.flush()
    assert (await index.manifests.all())[0].used > before


async def test_what_was_not_pushed_or_is_gone_is_no_use(store: Store) -> None:
    """Nor is what only looks like a digest."""
    uses = Uses(store, signs)
    for digest in (str(Digest.of(b"gone")), "sha256:short", "tag"):
        uses.add(NAME, digest)
    await uses.flush()
    assert await store.repositories() == []


async def test_a_store_that_fails_loses_no_use(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and written when it works again."""
    image = digest_of(await push_image(Registry(store), "one"))
    before = await used(store, image)
    uses = Uses(store, signs)

    async def fail(*_arguments: Any) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(type(store.pushed(NAME).manifests), "use", fail)
        uses.add(NAME, str(image))
        await uses.flush()
        await uses.flush()
    assert len(caplog.records) == 1
    assert uses.is_waiting(NAME, [image])
    await uses.flush()
    assert await used(store, image) > before


async def test_a_process_that_ends_writes_what_waits(store: Store) -> None:
    """And it has signed at its start, whatever became of that."""
    image = digest_of(await push_image(Registry(store), "one"))
    signed = asyncio.Event()

    async def sign() -> None:
        signed.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    uses, before = Uses(store, sign, pause=3600), await used(store, image)
    uses.start()
    await signed.wait()
    uses.add(NAME, str(image))
    await uses.close()
    assert await used(store, image) > before


async def test_links_that_take_no_time_keep_no_other_use_from_being_written(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They belong to another user, say; after a restart, all other images looked unused."""
    registry, layers = Registry(store), [str(number).encode() for number in range(30)]
    images = [digest_of(await push_image(registry, layers=[one])) for one in layers]
    before = {image: await used(store, image) for image in images}
    strange, own = images[:20], images[20:]
    manifests = type(store.pushed(NAME).manifests)
    use = manifests.use

    async def owned(links: Any, digest: Digest) -> bool:
        if digest in strange:
            raise PermissionError(errno.EACCES, "Permission denied")
        return await use(links, digest)

    uses = Uses(store, signs)
    monkeypatch.setattr(manifests, "use", owned)
    for image in images:
        uses.add(NAME, str(image))
    for _round in range(2):
        await uses.flush()
    assert all([await used(store, image) > before[image] for image in own])
    assert all(uses.is_waiting(NAME, [image]) for image in strange)
    assert len(caplog.records) == 1
    monkeypatch.undo()
    for _round in range(2):
        await uses.flush()
    assert all([await used(store, image) > before[image] for image in strange])


async def test_a_store_that_fails_slowly_holds_up_the_end_for_one_use(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service is tried for a while each time, and the process is killed if it takes too long."""
    registry = Registry(store)
    uses, asked = Uses(store, signs), list[Digest]()
    for layer in (b"one", b"two", b"three"):
        uses.add(NAME, str(digest_of(await push_image(registry, layers=[layer]))))

    async def fail(_links: Any, digest: Digest) -> bool:
        asked.append(digest)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(type(store.pushed(NAME).manifests), "use", fail)
    monkeypatch.setattr(buildset_registry.retention.uses, "_VAIN_SECONDS", -1)
    await uses.flush()
    assert len(asked) == 1
    assert uses.is_waiting(NAME, asked)


async def test_a_use_waits_until_it_is_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention asks meanwhile, too."""
    image = digest_of(await push_image(Registry(store), "one"))
    uses, waiting = Uses(store, signs), list[bool]()

    async def fail(_links: Any, digest: Digest) -> bool:
        waiting.append(uses.is_waiting(NAME, [digest]))
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(type(store.pushed(NAME).manifests), "use", fail)
    uses.add(NAME, str(image))
    await uses.flush()
    assert waiting == [True]


async def test_another_reason_is_told_beside_a_lasting_one(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A link that takes no time is no reason to be silent of a full disk."""
    registry = Registry(store)
    strange, own = [
        digest_of(await push_image(registry, layers=[one])) for one in (b"strange", b"own")
    ]
    full = False

    async def use(_links: Any, digest: Digest) -> bool:
        if digest == strange:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return True

    monkeypatch.setattr(type(store.pushed(NAME).manifests), "use", use)
    uses = Uses(store, signs)
    uses.add(NAME, str(strange))
    await uses.flush()
    full = True
    uses.add(NAME, str(own))
    for _round in range(2):
        await uses.flush()
    reasons = [record.getMessage().rpartition("] ")[2] for record in caplog.records]
    assert reasons == [
        "Operation not permitted; pulls go on",
        "No space left on device; pulls go on",
    ]
