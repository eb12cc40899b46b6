# SPDX-License-Identifier: Apache-2.0
"""An image that is removed at one replica while another one pushes it, or moves its tag."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from buildset_registry.config import Config
from buildset_registry.errors import ManifestUnknown
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.registry import Registry
from buildset_registry.store.base import Store
from buildset_registry.store.objects import keys

from tests.stores.fixtures import ObjectStores
from tests.unit.store.kinds import azure, gcs, replicas_of, s3, swift

NAME = RepositoryName("org/app")
LATEST = Tag("latest")
TYPE = "application/vnd.oci.image.index.v1+json"
SERVICES: dict[str, Callable[[ObjectStores], Config]] = {
    "azure": lambda servers: azure(servers.azurite),
    "gcs": lambda servers: gcs(servers.fake_gcs),
    "s3": lambda servers: s3(servers.minio),
    "swift": lambda servers: swift(servers.swift),
}


@pytest.fixture(params=list(SERVICES))
async def two(
    request: pytest.FixtureRequest, object_stores: ObjectStores
) -> AsyncIterator[tuple[Store, Store]]:
    """Two replicas on one bucket."""
    async with replicas_of(SERVICES[request.param](object_stores), 2) as (one, other):
        yield one, other


async def push(store: Store, *tags: str, word: str = "") -> Digest:
    """Push an index of nothing, which a word makes another one."""
    annotations = f'"annotations": {{"word": "{word}"}}'
    raw = f'{{"schemaVersion": 2, "mediaType": "{TYPE}", "manifests": [], {annotations}}}'
    manifest = await Registry(store).push_manifest(NAME, [Tag(tag) for tag in tags], raw.encode())
    return manifest.digest


async def listed(store: Store) -> dict[str, Digest]:
    """Return what each tag that is listed leads to, which has to be there."""
    registry = Registry(store)
    tags = await store.pushed(NAME).tags.all()
    return {tag: (await registry.manifest(NAME, tag)).digest for tag in tags}


def before(
    monkeypatch: pytest.MonkeyPatch, thing: object, name: str, act: Callable[[], Awaitable[Any]]
) -> list[str]:
    """Have something done once before a method; returns what has been done."""
    method, done = getattr(type(thing), name), list[str]()

    async def first(self: object, *given: object) -> object:
        if not done:
            done.append(name)
            await act()
        return await method(self, *given)

    monkeypatch.setattr(type(thing), name, first)
    return done


async def test_a_tag_of_another_replica_goes_with_its_image(two: tuple[Store, Store]) -> None:
    """Although it came a moment after the tags were listed here."""
    ours, theirs = two
    image = await push(ours, "v1")
    assert await listed(ours) == {"v1": image}
    await push(theirs, "v2")
    await Registry(ours).delete_manifest(NAME, image)
    assert await listed(ours) == await listed(theirs) == {}


async def test_what_is_removed_while_it_is_pushed_is_there_in_the_end(
    two: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was linked before the removal, and is tagged after it."""
    ours, theirs = two
    image = await push(theirs, "v1")
    removal = lambda: Registry(theirs).delete_manifest(NAME, image)  # noqa: E731
    done = before(monkeypatch, ours.pushed(NAME).tags, "set", removal)
    await push(ours, "latest")
    assert done
    assert await listed(ours) == await listed(theirs) == {"latest": image}


async def test_what_is_pushed_while_it_is_removed_leaves_no_tag_that_leads_nowhere(
    two: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tags had gone, its link had not."""
    ours, theirs = two
    image = await push(ours, "latest")
    done = before(
        monkeypatch, ours.pushed(NAME).manifests, "remove", lambda: push(theirs, "latest", "v2")
    )
    await Registry(ours).delete_manifest(NAME, image)
    assert done
    assert await listed(ours) == await listed(theirs) == {}


async def test_a_tag_that_is_moved_while_its_image_is_removed_stays(
    two: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had been looked at, and was about to be removed."""
    ours, theirs = two
    image = await push(ours, "latest")
    other = lambda: push(theirs, "latest", word="other")  # noqa: E731
    done = before(monkeypatch, ours.pushed(NAME).tags, "expire", other)
    await Registry(ours).delete_manifest(NAME, image)
    assert done
    moved = await push(theirs, word="other")
    assert await listed(ours) == await listed(theirs) == {"latest": moved}
    with pytest.raises(ManifestUnknown):
        await Registry(ours).manifest(NAME, image)


async def test_half_a_tag_is_not_completed_by_a_removal(two: tuple[Store, Store]) -> None:
    """Who set it was killed between its index and its link, and its image was removed since."""
    ours, theirs = two
    image = await push(ours, "latest")
    await asyncio.sleep(1.1)  # times of objects are in seconds
    tags, half = theirs.pushed(NAME).tags, await push(theirs, word="other")
    index = keys.link(keys.tag_index(tags._folder, LATEST), half)  # type: ignore[attr-defined]
    await tags._small.write(index, str(half).encode())  # type: ignore[attr-defined]
    await Registry(theirs).delete_manifest(NAME, half)
    await Registry(ours).delete_manifest(NAME, image)
    assert await listed(ours) == await listed(theirs) == {}


async def test_a_tag_that_is_set_in_the_second_of_its_removal_stays(
    two: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times of objects do not tell what came later, and it had been looked at."""
    ours, theirs = two
    image = await push(ours, "latest")
    removed = ours._small  # type: ignore[attr-defined]
    done = before(monkeypatch, removed, "remove", lambda: push(theirs, "latest", word="other"))
    await Registry(ours).delete_manifest(NAME, image)
    assert done
    assert await listed(theirs) == {"latest": await push(theirs, word="other")}


async def test_what_kills_have_left_goes_with_the_next_collection(
    two: tuple[Store, Store],
) -> None:
    """Who removed was killed behind the link, and who pushed before it looked again."""
    ours, theirs = two
    image = await push(ours, "latest")
    await push(theirs, "latest", "v2")
    await ours.pushed(NAME).manifests.remove(image)
    tags = ours.pushed(NAME).tags
    assert await tags.prune(time.time() - 60) == 0
    assert await tags.prune(time.time() + 60) == 2
    assert await listed(ours) == await listed(theirs) == {}


async def test_a_media_type_comes_with_its_manifest_again(two: tuple[Store, Store]) -> None:
    """It was removed with it at another replica, a moment ago."""
    ours, theirs = two
    raw, told = b'{"schemaVersion": 2, "manifests": []}', TYPE.replace("oci", "other")
    for _again in range(2):
        manifest = await Registry(theirs).push_manifest(NAME, [LATEST], raw, told)
        kept = await ours.pushed(NAME).manifests.media_type(manifest.digest)
        assert kept == told
        await Registry(ours).delete_manifest(NAME, manifest.digest)
