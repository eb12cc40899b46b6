# SPDX-License-Identifier: Apache-2.0
"""A tag whose removal breaks off, where another replica has just set it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.store.base import Tags, TagTarget
from buildset_registry.store.objects import keys
from buildset_registry.store.objects.blobs import BlobRules
from buildset_registry.store.objects.dialect import ObjectFailure, ObjectPage, ObjectState
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.store import ObjectStore

from tests.unit.store.objects.imagined import ImaginedService

NAME, LATEST = RepositoryName("org/app"), Tag("latest")
OLD, NEW = Digest.of(b"old"), Digest.of(b"new")
FOLDER = Keys().repository(NAME)
LINK = keys.tag_link(keys.tags(FOLDER), LATEST)
INDEX = keys.tag_index(keys.tags(FOLDER), LATEST)


class Breaking(ImaginedService):
    """A service where something is done beside the removal of a tag's link."""

    def __init__(self) -> None:
        super().__init__(1)
        self.before: Callable[[], Awaitable[object]] | None = None
        self.behind: Callable[[], object] | None = None
        self.silent: set[str] = set()
        """The keys, and beginnings of keys, that nothing is told of."""

    async def delete(self, key: str, *, plain: bool = False) -> None:
        if key == LINK and self.before is not None:
            before, self.before = self.before, None
            await before()
        await super().delete(key, plain=plain)
        if key == LINK and self.behind is not None:
            self.behind()

    async def head(self, key: str) -> ObjectState | None:
        self._check(key)
        return await super().head(key)

    async def list(self, prefix: str, *, shallow: bool = False) -> AsyncIterator[ObjectPage]:
        self._check(prefix)
        async for page in super().list(prefix, shallow=shallow):
            yield page

    def _check(self, key: str) -> None:
        if key in self.silent:
            raise ObjectFailure("the object store answers 503")


def tags_of(service: ImaginedService) -> Tags:
    """Return the tags of a repository as a process has them."""
    return ObjectStore(service, Keys(), BlobRules()).pushed(NAME).tags


@pytest.fixture
async def service() -> Breaking:
    """A service with two manifests and a tag of the old one."""
    made = Breaking()
    manifests = ObjectStore(made, Keys(), BlobRules()).pushed(NAME).manifests
    for digest in (OLD, NEW):
        await manifests.add(digest)
    await tags_of(made).set(LATEST, OLD)
    return made


async def target_of(service: ImaginedService) -> TagTarget:
    """Return what the tag leads to now."""
    target = await tags_of(service).get(LATEST)
    assert target is not None
    return target


async def test_who_is_cancelled_behind_a_removal_gives_back_what_was_set_since(
    service: Breaking,
) -> None:
    """The link that was removed was of another replica."""
    target = await target_of(service)
    service.before = lambda: tags_of(service).set(LATEST, NEW)
    removal = asyncio.ensure_future(tags_of(service).expire(LATEST, target))
    service.behind = removal.cancel
    await asyncio.wait([removal])
    assert removal.cancelled()
    assert (await target_of(service)).digest == NEW


@pytest.mark.parametrize("moved", [True, False])
async def test_where_nobody_can_tell_whether_a_tag_was_set_since_it_stays(
    service: Breaking, *, moved: bool
) -> None:
    """As it was, until whoever removes it tries again."""
    target = await target_of(service)
    if moved:
        service.before = lambda: tags_of(service).set(LATEST, NEW)
    service.behind = lambda: service.silent.add(INDEX)
    with pytest.raises(ObjectFailure):
        await tags_of(service).expire(LATEST, target)
    service.behind = None
    service.silent.clear()
    assert (await target_of(service)).digest == OLD
    assert await tags_of(service).expire(LATEST, await target_of(service))
    assert await tags_of(service).all() == []


async def test_where_nobody_can_tell_whether_its_manifest_is_there_a_tag_is_what_was_set(
    service: Breaking,
) -> None:
    """A collection removes what leads nowhere."""
    target = await target_of(service)
    service.before = lambda: tags_of(service).set(LATEST, NEW)
    service.behind = lambda: service.silent.add(keys.link(keys.revisions(FOLDER), NEW))
    with pytest.raises(ObjectFailure):
        await tags_of(service).expire(LATEST, target)
    service.silent.clear()
    assert (await target_of(service)).digest == NEW
