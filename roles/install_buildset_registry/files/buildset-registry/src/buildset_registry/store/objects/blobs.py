# SPDX-License-Identifier: Apache-2.0
"""Blobs in objects: content by digest, which many processes bring, read and remove at once."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from functools import partial

from buildset_registry.latest import Latest
from buildset_registry.oci.digest import Digest
from buildset_registry.parallel import all_of, together
from buildset_registry.store.base import BlobRedirect, BlobSource, BlobState, StoredBlob
from buildset_registry.store.contents import ContentCache
from buildset_registry.store.objects.dialect import (
    Body,
    Dialect,
    ObjectFailure,
    ObjectState,
    OpenObject,
)
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.promises import CACHED, PUSHED, Given, Promises
from buildset_registry.store.objects.redirects import Locate
from buildset_registry.store.objects.staging import StagedBlob, Staging

#: Seconds for which a blob is taken to be there still, and how many are remembered.
_SECONDS = 5.0
_REMEMBERED = 16384
#: Parts of all blobs that are listed at once.
_TOGETHER = 8


@dataclass(frozen=True, slots=True)
class BlobRules:
    """The ways in which blobs are handed out, and for how long promises are kept."""

    locate: Locate | None = None
    """Returns the URL that clients are sent to for one; None where they are not."""

    kept: float | None = None
    """Seconds after which a promise is of no use any more; None leaves them all."""


class ObjectBlobs:
    """``blobs/<algorithm>/<2 hex>/<hex>/data``, and the promises that hold them."""

    def __init__(
        self,
        dialect: Dialect,
        keys: Keys,
        promises: Promises,
        staging: Staging,
        rules: BlobRules,
    ) -> None:
        self._dialect = dialect
        self._keys = keys
        self._promises = promises
        self._staging = staging
        self._rules = rules
        self._contents = ContentCache()
        self._sizes: Latest[Digest, tuple[int, float]] = Latest(_REMEMBERED)

    async def size(self, digest: Digest) -> int | None:
        size, until = self._sizes.get(digest, (0, 0.0))
        if time.monotonic() < until:
            return size
        return await self._look(digest)

    async def open(self, digest: Digest) -> StoredBlob | None:
        size = await self._size_to_open(digest)
        if size is None:
            return None
        chunks = partial(self._chunks, digest)
        if self._rules.locate is not None and size and self._staging.known(digest) is None:
            url = await self._rules.locate(self._keys.blob(digest))
            if url is not None:
                return BlobRedirect(url, size, chunks)
        return BlobSource(size, chunks)

    async def _size_to_open(self, digest: Digest) -> int | None:
        """Return the size; where clients are sent to the service, as it was while that is gone."""
        try:
            return await self.size(digest)
        except ObjectFailure:
            known = self._sizes.get(digest)
            if known is None or self._rules.locate is None:
                raise
            return known[0]

    async def read(self, digest: Digest) -> bytes | None:
        known = self._contents.get(digest)
        if known is not None:
            return known
        opened = await self._opened(digest)
        if opened is None:
            return None
        content = b"".join([piece async for piece in opened.chunks])
        self._contents.add(digest, content)
        return content

    async def put(self, digest: Digest, content: bytes) -> None:
        await self._promises.bring(digest, PUSHED)
        await self._dialect.put(self._keys.blob(digest), Body(len(content), (content,)))
        self.arrived(digest, len(content))

    async def keep(self, digest: Digest, *, promised: bool = True) -> int | None:
        kind = PUSHED if promised else CACHED
        if self._promises.is_recent(digest, kind):
            return await self.size(digest)
        if not await self._promises.give(digest, kind):
            return None
        return await self._look(digest)

    async def walk(self, *, tidy: bool = False) -> AsyncIterator[list[BlobState]]:
        # First those that are about to be where the others are.
        staged = {one.digest: one for one in await self._staging.all()}
        for algorithm in self._keys.algorithms():
            parts: list[str] = []
            async for page in self._dialect.list(algorithm, shallow=True):
                parts += page.prefixes
            for start in range(0, len(parts), _TOGETHER):
                some = parts[start : start + _TOGETHER]
                for found in await together(some, partial(self._walk_part, tidy=tidy)):
                    for state in found:
                        staged.pop(state.digest, None)
                    yield found
        if staged:
            yield await together(staged.values(), self._staged_state, _TOGETHER)

    async def _walk_part(self, blobs: str, *, tidy: bool) -> list[BlobState]:
        given = await self._given(self._keys.promises_beside(blobs), tidy=tidy)
        return [
            _state(digest, one, given.get(digest, Given()))
            async for page in self._dialect.list(blobs)
            for one in page.objects
            if (digest := self._keys.blob_of(one.key)) is not None
        ]

    async def sweep(self, digest: Digest, promised_before: float, changed_before: float) -> bool:
        key = self._keys.blob(digest)
        async with self._promises.condemned(digest) as condemnation:
            state, staged = await all_of(self._dialect.head(key), self._staging.holds(digest))
            # What is staged may be told to be here, or is about to be at its key again.
            if state is None or staged:
                return False
            found = _state(digest, state, condemnation.given)
            if found.promised >= promised_before or found.changed >= changed_before:
                return False
            await condemnation.removing(partial(self._dialect.delete, key))
            self._gone(digest)
            await self._promises.forget(condemnation)
        return True

    async def bring(self, digest: Digest, *, promised: bool) -> None:
        """Promise a blob that is about to be put at its key."""
        await self._promises.bring(digest, PUSHED if promised else CACHED)

    def arrived(self, digest: Digest, size: int) -> None:
        """Note that a blob was put at its key."""
        self._sizes[digest] = (size, time.monotonic() + _SECONDS)

    async def used(self) -> int:
        """Add up the bytes of all blobs."""
        total, staged = 0, {one.digest: one.size for one in await self._staging.all()}
        async for page in self._dialect.list(self._keys.blobs):
            for one in page.objects:
                digest = self._keys.blob_of(one.key)
                if digest is not None:
                    total += one.size
                    staged.pop(digest, None)
        return total + sum(staged.values())

    async def _look(self, digest: Digest) -> int | None:
        found: ObjectState | StagedBlob | None = self._staging.held(digest)
        if found is None:
            found = await self._dialect.head(self._keys.blob(digest))
        if found is None:
            found = await self._staging.find(digest)
        if found is None and self._staging.used:  # it may have been moved between these looks
            found = await self._dialect.head(self._keys.blob(digest))
        if found is None:
            self._gone(digest)
            return None
        self.arrived(digest, found.size)
        return found.size

    async def _chunks(self, digest: Digest, start: int, end: int) -> AsyncGenerator[bytes]:
        moved = False
        while start < end:
            opened = await self._opened(digest, start, end)
            if opened is None:
                raise ObjectFailure(f"{digest} was removed")
            try:
                async for piece in opened.chunks:
                    start += len(piece)
                    yield piece
            except ObjectFailure:
                if moved or opened.state.key == self._keys.blob(digest):
                    raise
                moved = True  # meanwhile, to its key
                self._staging.forget(digest)

    async def _opened(
        self, digest: Digest, start: int = 0, end: int | None = None
    ) -> OpenObject | None:
        """Open a blob where it is: at its key, or where it arrived."""
        key, staged = self._keys.blob(digest), self._staging.known(digest)
        opened = None if staged is None else await self._dialect.get(staged.key, start, end)
        if opened is None:
            opened = await self._dialect.get(key, start, end)
        if opened is None:
            staged = await self._staging.find(digest)
            if staged is not None:
                opened = await self._dialect.get(staged.key, start, end)
            if opened is None and self._staging.used:  # moved between these looks
                opened = await self._dialect.get(key, start, end)
        return opened

    async def _staged_state(self, one: StagedBlob) -> BlobState:
        given, _keys = await self._promises.of(one.digest)
        changed = max(one.changed, given.changed)
        return BlobState(one.digest, one.size, given.promised, changed)

    async def _given(self, prefix: str, *, tidy: bool) -> dict[Digest, Given]:
        """Return what is promised, and remove what is of no use any more, if that is wanted."""
        given: dict[Digest, Given] = {}
        useless: list[str] = []
        kept, now = self._rules.kept, self._promises.clock.now()
        before = 0.0 if kept is None else now - kept
        async for page in self._dialect.list(prefix):
            for one in page.objects:
                promise = self._keys.promise_of(one.key)
                if promise is None:
                    continue
                if one.changed < before:
                    useless.append(one.key)
                else:
                    known = given.get(promise[0], Given())
                    given[promise[0]] = known.and_at(one.changed, promise[1])
        if tidy:
            await self._promises.discard(useless, before)
        return given

    def _gone(self, digest: Digest) -> None:
        self._sizes.pop(digest, None)
        self._contents.removed(digest)


def _state(digest: Digest, state: ObjectState, given: Given) -> BlobState:
    return BlobState(digest, state.size, given.promised, max(state.changed, given.changed))
