# SPDX-License-Identifier: Apache-2.0
"""Pushes and removals at several replicas, some of them killed, in orders that chance makes."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from buildset_registry.errors import RegistryError
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.registry import Registry
from buildset_registry.store.objects import keys
from buildset_registry.store.objects.blobs import BlobRules
from buildset_registry.store.objects.dialect import Abilities, ObjectPage
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.store import ObjectStore

from tests.unit.store.objects.imagined import ImaginedService

NAME = RepositoryName("org/app")
TYPE = "application/vnd.oci.image.index.v1+json"
TAGS, WORDS = (Tag("t"), Tag("u")), ("a", "b")
SEEDS = range(300)
REPOSITORY = Keys().repository(NAME)


class KilledError(BaseException):
    """A replica was."""


class Mortal:
    """A replica's way to a service; after some requests it is killed."""

    def __init__(self, service: ImaginedService, requests: int | None) -> None:
        self._service = service
        self._left = math.inf if requests is None else requests
        self.abilities = service.abilities

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._service, name)

        def asked(*given: Any, **more: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise KilledError
            return method(*given, **more)

        return asked


def raw_of(word: str) -> bytes:
    """Return an index of nothing, which a word makes another one."""
    annotations = f'"annotations": {{"word": "{word}"}}'
    return f'{{"schemaVersion": 2, "mediaType": "{TYPE}", "manifests": [], {annotations}}}'.encode()


@dataclass
class Act:
    """Something that a client asked for; ``well`` is None where nobody knows."""

    kind: str
    tag: Tag
    word: str
    begun: float = 0
    ended: float = math.inf
    well: bool | None = None

    async def do(self, store: ObjectStore, clock: itertools.count[int]) -> None:
        registry = Registry(store)
        self.begun = next(clock)
        try:
            if self.kind == "push":
                await registry.push_manifest(NAME, [self.tag], raw_of(self.word))
            elif self.kind == "delete":
                await registry.delete_manifest(NAME, Digest.of(raw_of(self.word)))
            else:
                await registry.delete_tag(NAME, self.tag)
            self.well = True
        except RegistryError:
            self.well = False
        except KilledError:
            return
        self.ended = next(clock)


def faults(service: ImaginedService, acts: Sequence[Act]) -> list[str]:
    """Return what no order of what was asked for explains."""
    found = []
    for tag in TAGS:
        ours = [one for one in acts if one.tag == tag or one.kind == "delete"]
        pushes = [one for one in ours if one.kind == "push" and one.well is not False]
        removals = [one for one in ours if one.kind != "push"]
        # Those that no other one has come after for certain.
        last = [
            one
            for one in pushes
            if not any(one.ended < other.begun for other in pushes if other.well)
        ]
        link = service.objects.get(keys.tag_link(keys.tags(REPOSITORY), tag))
        if link is None:
            removed = any(
                other.ended > one.begun and (other.kind == "untag" or other.word == one.word)
                for one in last
                for other in removals
            )
            if any(one.well for one in pushes) and not removed:
                found.append(f"{tag} is lost")
            continue
        digest = Digest.parse(link[0].decode())
        if keys.link(keys.revisions(REPOSITORY), digest) not in service.objects:
            found.append(f"{tag} leads nowhere")
        made = [one for one in last if Digest.of(raw_of(one.word)) == digest]
        if not made:
            found.append(f"{tag} leads to what it was once")
        for other in removals:
            ended = other.well and all(one.ended < other.begun for one in made)
            if ended and (other.kind == "untag" or Digest.of(raw_of(other.word)) == digest):
                found.append(f"{tag} has come back")
    return found


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
async def test_an_order_explains_what_tags_lead_to(
    killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No push is lost that was answered, nothing comes back, and no tag leads nowhere.

    Where somebody was killed, after the next collection.
    """
    monkeypatch.setattr("buildset_registry.store.objects.promises._PAUSE", 0)
    deaths = 0
    for seed in SEEDS:
        service, clock = ImaginedService(seed), itertools.count(1)
        acts, chance = list[Act](), service.chance

        async def later(
            act: Act, requests: int | None, turns: int, service: Any = service, clock: Any = clock
        ) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            await act.do(ObjectStore(Mortal(service, requests), Keys(), BlobRules()), clock)

        for tag in TAGS:
            acts.append(Act("push", tag, chance.choice(WORDS)))
            await later(acts[-1], None, 0)
        under_way = []
        for _ in range(chance.choice([2, 3, 4])):
            kind = chance.choice(["push", "push", "delete", "delete", "untag"])
            acts.append(Act(kind, chance.choice(TAGS), chance.choice(WORDS)))
            dies = chance.randrange(30) if killed and chance.random() < 0.4 else None
            under_way.append(later(acts[-1], dies, chance.randrange(60)))
        await asyncio.wait_for(asyncio.gather(*under_way), 60)
        deaths += any(act.well is None for act in acts)
        store = ObjectStore(service, Keys(), BlobRules())
        if killed:
            await store.pushed(NAME).tags.prune(service.now + 1)
            listed = await store.pushed(NAME).tags.all()
            assert all([await store.pushed(NAME).tags.get(tag) for tag in listed])
        assert faults(service, acts) == [], (seed, acts)
    assert bool(deaths) is killed


async def test_what_no_list_has_yet_goes_with_its_image() -> None:
    """A tag was moved a moment ago, and the service lists it as it was before."""

    class Late(ImaginedService):
        abilities = Abilities(part_size=8, most_parts=100, lists=False)
        since = math.inf

        async def list(self, prefix: str, *, shallow: bool = False) -> Any:
            async for page in super().list(prefix, shallow=shallow):
                early = [one for one in page.objects if one.changed <= self.since]
                yield ObjectPage(early, page.prefixes)

    service = Late(1)
    store = ObjectStore(service, Keys(), BlobRules())
    registry = Registry(store)
    await registry.push_manifest(NAME, [TAGS[0]], raw_of("a"))
    service.since = service.now
    moved = await registry.push_manifest(NAME, [TAGS[0]], raw_of("b"))
    await registry.delete_manifest(NAME, moved.digest)
    assert await store.pushed(NAME).tags.get(TAGS[0]) is None


async def test_a_removal_ends_although_the_clock_was_set_back() -> None:
    """By its time, the tag is being set all the while."""
    service = ImaginedService(1)
    store = ObjectStore(service, Keys(), BlobRules())
    registry = Registry(store)
    service.now += 36000
    first = await registry.push_manifest(NAME, [TAGS[0]], raw_of("a"))
    service.now -= 36000
    second = await registry.push_manifest(NAME, [TAGS[0]], raw_of("b"))
    for one in (second, first):
        await asyncio.wait_for(registry.delete_manifest(NAME, one.digest), 60)
    assert await store.pushed(NAME).tags.get(TAGS[0]) is None
