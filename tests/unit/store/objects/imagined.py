# SPDX-License-Identifier: Apache-2.0
"""A service in memory whose requests take any time, and whose clock ticks with each change."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from buildset_registry.store.objects.dialect import (
    Abilities,
    Body,
    Condition,
    ConditionFailed,
    ObjectPage,
    ObjectPart,
    ObjectState,
    OpenObject,
    PartUpload,
)


class ImaginedService:
    """Objects of one bucket; each request waits by chance before and after it is done."""

    abilities = Abilities(part_size=8, most_parts=100)

    def __init__(self, seed: int) -> None:
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.now = 1000.0
        self.chance = random.Random(seed)

    async def _wait(self) -> None:
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)

    def _state(self, key: str) -> ObjectState | None:
        found = self.objects.get(key)
        return None if found is None else ObjectState(key, len(found[0]), found[1], str(found[1]))

    async def head(self, key: str) -> ObjectState | None:
        await self._wait()
        found = self._state(key)
        await self._wait()
        return found

    async def get(self, key: str, start: int = 0, end: int | None = None) -> OpenObject | None:
        await self._wait()
        state = self._state(key)
        if state is None:
            return None
        content = self.objects[key][0][start:end]
        await self._wait()

        async def chunks() -> AsyncGenerator[bytes]:
            yield content

        return OpenObject(state, chunks())

    async def put(self, key: str, content: Body, condition: Condition | None = None) -> str:
        await self._wait()
        state = self._state(key)
        if condition is not None and condition.version != (state and state.version):
            raise ConditionFailed
        self.now += 1
        self.objects[key] = (b"".join(content.pieces), self.now)
        await self._wait()
        return str(self.now)

    async def delete(self, key: str, *, plain: bool = False) -> None:
        await self._wait()
        self.objects.pop(key, None)
        await self._wait()

    async def list(self, prefix: str, *, shallow: bool = False) -> AsyncIterator[ObjectPage]:
        await self._wait()
        keys = [key for key in self.objects if key.startswith(prefix)]
        ends = [key.find("/", len(prefix)) + 1 if shallow else 0 for key in keys]
        further = {key[:end] for key, end in zip(keys, ends, strict=True) if end}
        states = [self._state(key) for key, end in zip(keys, ends, strict=True) if not end]
        await self._wait()
        yield ObjectPage([one for one in states if one is not None], sorted(further))

    async def begin(self, key: str) -> PartUpload:
        raise NotImplementedError

    async def put_part(self, upload: PartUpload, number: int, content: Body) -> ObjectPart:
        raise NotImplementedError

    async def complete(
        self, upload: PartUpload, parts: Sequence[ObjectPart], *, once: bool = False
    ) -> None:
        raise NotImplementedError

    async def abort(self, upload: PartUpload) -> None:
        raise NotImplementedError

    async def abandon(self, key: str, before: float) -> bool:
        raise NotImplementedError

    async def stale(self, prefix: str, before: float) -> AsyncIterator[PartUpload]:
        raise NotImplementedError
        yield

    async def move(self, source: ObjectState, target: str) -> None:
        raise NotImplementedError

    async def sign(self, key: str) -> str | None:
        return None

    async def probe(self) -> None:
        """It is there."""

    async def aclose(self) -> None:
        """Nothing is held."""


class LosingService(ImaginedService):
    """A service whose first answer to each write is lost, so that it is asked again."""

    async def put(self, key: str, content: Body, condition: Condition | None = None) -> str:
        await super().put(key, content, condition)
        try:
            return await super().put(key, content, condition)
        except ConditionFailed:
            raise ConditionFailed(again=True) from None
