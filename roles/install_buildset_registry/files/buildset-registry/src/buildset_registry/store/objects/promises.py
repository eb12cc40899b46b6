# SPDX-License-Identifier: Apache-2.0
"""Promises that content stays, kept by every replica, without clocks and conditional deletes.

Who tells a client that content is here, or brings it, first puts a *promise*, and then looks
whether somebody has *condemned* the content. Who removes it condemns it first, and then looks for
promises. Of two at once, one at least sees the other: the one who gives a promise waits until the
other is done, or says that the content is not here; the one who removes spares what is promised.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from buildset_registry.latest import Latest
from buildset_registry.oci.digest import Digest
from buildset_registry.parallel import to_its_end, together
from buildset_registry.store.objects.clock import ServiceClock
from buildset_registry.store.objects.dialect import (
    ABSENT,
    Body,
    ConditionFailed,
    ObjectFailure,
    ObjectPage,
    Objects,
)
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.small import put_once

_Result = TypeVar("_Result")

#: A promise that this process gave is good for so many seconds without another look: collection
#: removes nothing that was promised for a minute.
_GOOD = 30.0
_REMEMBERED = 8192
#: Seconds after which who condemned has surely died, and those within which it has to be done; a
#: removal that is broken off then may take five more.
_DEAD = 60.0
_DONE = 20.0
_PAUSE = 0.1
#: Seconds after which a sentence is surely one that nobody lifts any more, whatever the clocks.
_FORGOTTEN = 3600.0
#: Kinds of promises: to a client that pushes, and of what is to be linked in the cache.
PUSHED, CACHED = "p", "c"
#: In place of a random word.
_ONE = "0"


@dataclass(frozen=True, slots=True)
class Given:
    """When content was last promised to a client that pushes, and to anybody; 0: never."""

    promised: float = 0.0
    changed: float = 0.0

    def and_at(self, changed: float, kind: str) -> Given:
        """Return what is given with one more promise."""
        promised = changed if kind == PUSHED else 0.0
        return Given(max(self.promised, promised), max(self.changed, changed))


#: What is given where somebody else is about to remove the content, and knows better.
_SPARED = Given(math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Condemnation:
    """Content that nobody else may promise at the moment."""

    given: Given
    now: float
    """The time by the clock of the service, which the times of objects are of."""

    _until: float
    _stands: Callable[[], Awaitable[bool]]
    promises: Sequence[str] = ()
    """The keys of those that were found."""

    async def removing(self, removal: Callable[[], Awaitable[_Result]]) -> _Result:
        """Remove it, as long as nobody takes the sentence for given up: then it may be new."""
        if not await self._stands():
            raise ObjectFailure("another process collects at the same time")
        try:
            return await asyncio.wait_for(removal(), max(0.0, self._until - time.monotonic()))
        except asyncio.TimeoutError:
            raise ObjectFailure("the object store took too long for a removal") from None


class Promises:
    """The promises of a bucket."""

    def __init__(
        self,
        objects: Objects,
        keys: Keys,
        *,
        conditions: bool = True,
        listed: bool = True,
        clock: ServiceClock | None = None,
    ) -> None:
        """Take the objects; where they are not ``listed`` at once, a kind has one key for all."""
        self.clock = clock or ServiceClock()
        self._conditions = conditions
        self._objects = objects
        self._keys = keys
        self._listed = listed
        self._recent: Latest[Digest, tuple[float, str]] = Latest(_REMEMBERED)

    def is_recent(self, digest: Digest, kind: str) -> bool:
        """Tell whether this process gave such a promise a moment ago."""
        until, given = self._recent.get(digest, (0.0, kind))
        return time.monotonic() < until and given in (kind, PUSHED)

    async def give(self, digest: Digest, kind: str, word: str = "") -> bool:
        """Promise that content stays; False where somebody is about to remove it.

        Whoever asks again gives the ``word`` of before, for one promise in all.
        """
        if self.is_recent(digest, kind):
            return True
        begun = time.monotonic()
        word = (word or secrets.token_hex(8)) if self._listed else _ONE
        key = f"{self._keys.promises(digest)}{kind}-{word}"
        await self._objects.put(key, Body(0, ()))
        if await self._is_condemned(digest, key):
            return False
        self._recent[digest] = (begun + _GOOD, kind)
        return True

    async def _is_condemned(self, digest: Digest, promise: str) -> bool:
        """Tell whether somebody is about to remove content that was just promised by a key.

        Who was killed, or could not lift it, leaves a sentence: by the service's own times it is
        one of those when the promise is so much newer. It stays where it is: whoever condemns the
        content again sees the promise.

        Where all promises have one key, whoever removes an older one may have removed this, and
        has lifted the sentence since.
        """
        sentence = await self._objects.head(self._keys.condemned(digest))
        if sentence is None and self._listed:
            return False
        given = await self._objects.head(promise)
        if sentence is None or given is None:
            return given is None
        return given.changed - sentence.changed <= _DEAD

    async def bring(self, digest: Digest, kind: str) -> None:
        """Promise content that is about to be put there, after who removes it is done."""
        begun, word = time.monotonic(), secrets.token_hex(8)
        while not await self.give(digest, kind, word):
            if time.monotonic() - begun > _DEAD:
                await self._objects.delete(self._keys.condemned(digest), plain=True)
            await asyncio.sleep(_PAUSE)

    @asynccontextmanager
    async def condemned(self, digest: Digest) -> AsyncIterator[Condemnation]:
        """Keep others from promising content; yields what was promised before."""
        self._recent.pop(digest, None)
        key, until = self._keys.condemned(digest), time.monotonic() + _DONE
        word = secrets.token_hex(8).encode()
        stands = partial(self._stands, key, word)
        try:
            condemned = await self._condemn(key, word)
        except BaseException:
            await to_its_end(self._take_back(key, word))
            raise
        if not condemned:
            yield Condemnation(_SPARED, self.clock.now(), until, stands)
            return
        try:
            state = await self._objects.head(key)
            given, names = await self.of(digest)
            now = 0.0 if state is None else state.changed
            yield Condemnation(given, now, until, stands, names)
        finally:
            await to_its_end(self._lift(key, word))

    async def _condemn(self, key: str, word: bytes) -> bool:
        """Condemn content; False where somebody else has, who would lift the sentence too early."""
        body = Body(len(word), (word,))
        if self._conditions:
            try:
                await put_once(self._objects, key, body, ABSENT)
                return True
            except ConditionFailed:
                pass
        state = await self._objects.head(key)
        if state is None and not self._conditions:
            # Two may come here at once: the word tells whose sentence it is in the end.
            await self._objects.put(key, body)
            return True
        if state is not None and state.changed < self.clock.now() - _FORGOTTEN:
            await self._objects.delete(key, plain=True)  # the next collection does it
        return False

    async def _stands(self, key: str, word: bytes) -> bool:
        """Tell whether a sentence is still the one that was passed here."""
        if self._conditions:
            return True  # nobody else could pass one
        return await self._is_own(key, word)

    async def _is_own(self, key: str, word: bytes) -> bool:
        found = await self._objects.get(key)
        return found is not None and b"".join([one async for one in found.chunks]) == word

    async def _take_back(self, key: str, word: bytes) -> None:
        """Lift a sentence that may have been passed, by whoever does not know and goes on."""
        with suppress(ObjectFailure):  # then it is ignored when it is old
            if await self._is_own(key, word):
                await self._objects.delete(key, plain=True)

    async def _lift(self, key: str, word: bytes) -> None:
        """Lift one's own sentence, never another's."""
        if await self._stands(key, word):
            await self._objects.delete(key, plain=True)

    async def of(self, digest: Digest) -> tuple[Given, list[str]]:
        """Return what is promised of content, and by which keys."""
        found, names = Given(), []
        async for page in self._pages(digest):
            for one in page.objects:
                promise = self._keys.promise_of(one.key)
                if promise is not None:
                    found = found.and_at(one.changed, promise[1])
                    names.append(one.key)
        return found, names

    async def _pages(self, digest: Digest) -> AsyncIterator[ObjectPage]:
        """Yield the promises of content: by a list, or by asking for each where a list may lag."""
        prefix = self._keys.promises(digest)
        if self._listed:
            async for page in self._objects.list(prefix):
                yield page
        else:
            states = [
                await self._objects.head(f"{prefix}{kind}-{_ONE}") for kind in (PUSHED, CACHED)
            ]
            yield ObjectPage([one for one in states if one is not None])

    async def discard(self, names: Sequence[str], before: float) -> None:
        """Remove promises that were given before a time."""

        async def discard(key: str) -> None:
            promise = None if self._listed else self._keys.promise_of(key)
            if promise is None:
                await self._objects.delete(key, plain=True)
                return
            # The one key of all of them, by which another promise may just be given.
            async with self.condemned(promise[0]) as condemnation:
                state = await self._objects.head(key)
                spared = condemnation.given is _SPARED  # who was killed left a sentence
                if not spared and state is not None and state.changed < before:
                    await condemnation.removing(partial(self._objects.delete, key, plain=True))

        await together(names, discard)

    async def forget(self, condemnation: Condemnation) -> None:
        """Remove the promises of content that is gone: those that were found when it was condemned.

        A later one may be of somebody who brings it again, and finds it condemned no more.
        """

        async def remove() -> None:
            await together(condemnation.promises, partial(self._objects.delete, plain=True))

        with suppress(ObjectFailure):  # they go when they are old
            await condemnation.removing(remove)
