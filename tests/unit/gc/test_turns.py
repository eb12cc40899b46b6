# SPDX-License-Identifier: Apache-2.0
"""Changes of several keys beside each other: whatever interleaves, no tag leads nowhere.

Each pair runs many times, the second change beginning later and later: over all of the first.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.errors import RegistryError
from buildset_registry.gc import collect
from buildset_registry.oci.descriptor import OCI_MANIFEST
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.registry import Registry
from buildset_registry.sources import StoredManifest
from buildset_registry.store.base import Store
from buildset_registry.store.filesystem import layout
from buildset_registry.verify import verify

from tests.stores.fixtures import ObjectStores
from tests.unit.clocks import Shifted
from tests.unit.gc.images import NAME, UNTAGGED, clean, descriptor, digest_of, push_image, silent
from tests.unit.store.kinds import LOCAL, opened

PAIRS = 200
TAG = Tag("latest")

#: A change of the pair; it may be refused.
Change = Callable[[], Awaitable[Any]]


def manifest(number: int, **more: Any) -> bytes:
    """Return an image without a blob of its own."""
    config = descriptor(Digest.of(b"{}"), 2)
    tree = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}
    return json.dumps(tree | {"annotations": {"number": str(number)}} | more).encode()


async def beside(number: int, first: Change, second: Change) -> None:
    """Run two changes, the second so many turns of the event loop later, or milliseconds."""

    async def later() -> None:
        for _turn in range(number % 20):
            await asyncio.sleep(0)
        if number % 40 >= 20:
            await asyncio.sleep(number % 10 * 0.0004)
        with contextlib.suppress(RegistryError):
            await second()

    async def now() -> None:
        with contextlib.suppress(RegistryError):
            await first()

    await asyncio.gather(now(), later())


async def nothing_is_torn(store: Store, name: RepositoryName = NAME) -> None:
    """Each tag that is listed leads to a manifest, each referrer that is noted is there."""
    index = store.pushed(name)
    for tag in await index.tags.all():
        target = await index.tags.get(tag)
        assert target is not None
        assert await index.manifests.has(target.digest), f"{tag} leads nowhere"
        assert await store.blobs.read(target.digest) is not None


@pytest.fixture(params=LOCAL)
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, object_stores: ObjectStores
) -> AsyncIterator[Store]:
    """Turns are a process's own, the same over each store: those that take no time tell enough."""
    async with opened(request.param, tmp_path, object_stores) as made:
        yield made


@pytest.fixture
async def ends(store: Store) -> tuple[Registry, Registry]:
    """Two endpoints of one store, the config of all images in it."""
    one, other = Registry(store), Registry(store)
    await push_image(one, "config")
    await store.blobs.put(Digest.of(b"{}"), b"{}")
    await store.pushed(NAME).layers.add(Digest.of(b"{}"))
    return one, other


async def test_a_push_by_tag_beside_the_removal_of_its_manifest(
    store: Store, ends: tuple[Registry, Registry]
) -> None:
    one, other = ends
    for number in range(PAIRS):
        raw = manifest(number)
        digest = Digest.of(raw)
        await one.push_manifest(NAME, [digest], raw)
        push = partial(one.push_manifest, NAME, [Tag(f"t{number}"), Tag("second")], raw)
        await beside(number, push, partial(other.delete_manifest, NAME, digest))
        await beside(number, partial(other.delete_manifest, NAME, digest), push)
        await nothing_is_torn(store)
    assert not (await verify(store, silent, sparse=False, pause=0)).problems


async def test_a_push_by_tag_beside_the_removal_of_the_tag_and_of_what_it_was(
    store: Store, ends: tuple[Registry, Registry]
) -> None:
    """The tag moves from one image to the next while the first one goes."""
    one, other = ends
    before = manifest(-1)
    await one.push_manifest(NAME, [TAG], before)
    for number in range(PAIRS):
        raw = manifest(number)
        push = partial(one.push_manifest, NAME, [TAG], raw)
        removal = partial(other.delete_manifest, NAME, Digest.of(before))
        await beside(number, push, removal if number % 2 else partial(other.delete_tag, NAME, TAG))
        await nothing_is_torn(store)
        if number % 2:
            target = await store.pushed(NAME).tags.get(TAG)
            assert target is not None
            assert target.digest == Digest.of(raw), "a push was undone by another's removal"
        before = raw


async def test_a_referrer_pushed_beside_its_removal_is_noted_if_it_is_there(
    store: Store, ends: tuple[Registry, Registry]
) -> None:
    one, other = ends
    subject = await push_image(one, "subject")
    for number in range(PAIRS):
        raw = manifest(number, subject=subject)
        digest = Digest.of(raw)
        await one.push_manifest(NAME, [digest], raw)
        push = partial(one.push_manifest, NAME, [digest], raw)
        await beside(number, push, partial(other.delete_manifest, NAME, digest))
        noted = digest in await store.pushed(NAME).referrers.of(digest_of(subject))
        assert noted == await store.pushed(NAME).manifests.has(digest)


async def test_a_manifest_that_gets_a_tag_beside_a_collection_stays(
    store: Store,
    ends: tuple[Registry, Registry],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It had none for longer than manifests stay without one."""
    one, _other = ends
    # Far longer than a push may take on a busy machine: past it, a collection is in its rights.
    rules = replace(UNTAGGED, settling=600)
    root, ago = tmp_path / "store", Shifted(-3600)
    revisions = layout.revisions(layout.repository(root, NAME))
    for number in range(PAIRS):
        raw = manifest(number)
        digest = Digest.of(raw)
        with monkeypatch.context() as earlier:
            for module in ("blobs", "links"):
                earlier.setattr(f"buildset_registry.store.memory.{module}.time", ago)
            await one.push_manifest(NAME, [digest], raw)
        if root.exists():
            for path in (layout.blob(root, digest), layout.link(revisions, digest)):
                os.utime(path, (ago.time(), ago.time()))
        push = partial(one.push_manifest, NAME, [TAG], raw)
        await beside(number, push, partial(collect, store, rules, silent, dry_run=False))
        await nothing_is_torn(store)
        assert (await one.manifest(NAME, digest)).raw == raw


async def test_children_stay_between_their_push_and_their_index(
    store: Store, ends: tuple[Registry, Registry]
) -> None:
    """For the grace period, even where nothing stays without a tag."""
    one, _other = ends
    raw = manifest(1)
    await one.push_manifest(NAME, [Digest.of(raw)], raw)
    await clean(store, replace(UNTAGGED, untagged=0, grace=60))
    assert await one.manifest(NAME, Digest.of(raw)) == StoredManifest(
        raw, OCI_MANIFEST, Digest.of(raw)
    )
    await clean(store, replace(UNTAGGED, untagged=-1000, grace=-1000))
    with pytest.raises(RegistryError):
        await one.manifest(NAME, Digest.of(raw))
