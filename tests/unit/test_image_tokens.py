# SPDX-License-Identifier: Apache-2.0
"""What a token for single images reaches, and how much of the store is looked at for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Tag
from buildset_registry.registry import Registry
from buildset_registry.store.memory import MemoryStore

from tests.unit.gc.images import NAME, digest_of, push_image

TAGS = [Tag(f"v{number}") for number in range(200)]


class Looks:
    """How often a store was asked for blobs, and for tags of the repository."""

    def __init__(self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blobs = self.tags = 0
        for asked, name in ((store.blobs, "read"), (store.blobs, "size")):
            monkeypatch.setattr(asked, name, self._counted(getattr(asked, name), "blobs"))
        tags = store.pushed(NAME).tags
        monkeypatch.setattr(tags, "get", self._counted(tags.get, "tags"))

    def _counted(self, ask: Any, kind: str) -> Any:
        async def counted(key: object) -> Any:
            setattr(self, kind, getattr(self, kind) + 1)
            return await ask(key)

        return counted


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def test_what_the_first_of_many_tags_means_is_found_by_one_look(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are not looked up, and no manifest is read."""
    registry = Registry(store)
    wanted = digest_of(await push_image(registry, *TAGS))
    looks = Looks(store, monkeypatch)
    assert await registry.reaches(NAME, TAGS, wanted)
    assert (looks.tags, looks.blobs) == (1, 1)


async def test_what_belongs_to_an_image_named_by_digest_needs_no_tag(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever tags the token names before it."""
    registry = Registry(store)
    await push_image(registry, *TAGS)
    other = digest_of(await push_image(registry, layers=[b"other"]))
    looks = Looks(store, monkeypatch)
    assert await registry.reaches(NAME, [*TAGS, other], Digest.of(b"other"))
    assert looks.tags == 0
    assert await registry.reaches(NAME, [*TAGS, other], Digest.of(b"layer"))
    assert not await registry.reaches(NAME, [*TAGS, other], Digest.of(b"another"))


async def test_others_have_their_turn_while_many_tags_are_looked_up(store: MemoryStore) -> None:
    """No look into this store waits for anything."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(take_turns())
    assert not await Registry(store).reaches(NAME, TAGS, Digest.of(b"another"))
    other.cancel()
    assert turns >= 5
