# SPDX-License-Identifier: Apache-2.0
"""Blobs in objects: content by digest, which many processes bring, read and remove at once."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from functools import partial

from buildset_registry.oci.digest import Digest
from buildset_registry.store.base import BlobRedirect, BlobSource, BlobState, StoredBlob
from buildset_registry.store.contents import ContentCache
from buildset_registry.store.objects.dialect import Body, Dialect, ObjectFailure, ObjectState
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.promises import CACHED, PUSHED, Given, Promises
from buildset_registry.store.objects.redirects import Locate
from buildset_registry.store.objects.small import together

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

    def __init__(self, dialect: Dialect, keys: Keys, promises: Promises, rules: BlobRules) -> None:
        self._dialect = dialect
        self._keys = keys
        self._promises = promises
        self._rules = rules
        self._contents = ContentCache()
        self._sizes: OrderedDict[Digest, tuple[int, float]] = OrderedDict()

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
        if self._rules.locate is not None and size:
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
        opened = await self._dialect.get(self._keys.blob(digest))
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

    async def walk(self) -> AsyncIterator[list[BlobState]]:
        for algorithm in self._keys.algorithms():
            parts: list[str] = []
            async for page in self._dialect.list(algorithm, shallow=True):
                parts += page.prefixes
            for start in range(0, len(parts), _TOGETHER):
                for found in await together(parts[start : start + _TOGETHER], self._walk_part):
                    yield found

    async def _walk_part(self, blobs: str) -> list[BlobState]:
        given = await self._given(self._keys.promises_beside(blobs))
        return [
            _state(digest, one, given.get(digest, Given()))
            async for page in self._dialect.list(blobs)
            for one in page.objects
            if (digest := self._keys.blob_of(one.key)) is not None
        ]

    async def sweep(self, digest: Digest, promised_before: float, changed_before: float) -> bool:
        key = self._keys.blob(digest)
        async with self._promises.condemned(digest) as condemnation:
            state = await self._dialect.head(key)
            if state is None:
                return False
            found = _state(digest, state, condemnation.given)
            if found.promised >= promised_before or found.changed >= changed_before:
                return False
            await condemnation.removing(partial(self._dialect.delete, key))
            self._gone(digest)
            await self._promises.forget(digest)
        return True

    async def bring(self, digest: Digest, *, promised: bool) -> None:
        """Promise a blob that is about to be put at its key."""
        await self._promises.bring(digest, PUSHED if promised else CACHED)

    def arrived(self, digest: Digest, size: int) -> None:
        """Note that a blob was put at its key."""
        self._sizes[digest] = (size, time.monotonic() + _SECONDS)
        self._sizes.move_to_end(digest)
        while len(self._sizes) > _REMEMBERED:
            self._sizes.popitem(last=False)

    async def used(self) -> int:
        """Add up the bytes of all blobs."""
        total = 0
        async for page in self._dialect.list(self._keys.blobs):
            total += sum(one.size for one in page.objects if self._keys.blob_of(one.key))
        return total

    async def _look(self, digest: Digest) -> int | None:
        state = await self._dialect.head(self._keys.blob(digest))
        if state is None:
            self._gone(digest)
            return None
        self.arrived(digest, state.size)
        return state.size

    async def _chunks(self, digest: Digest, start: int, end: int) -> AsyncGenerator[bytes]:
        if start >= end:
            return
        opened = await self._dialect.get(self._keys.blob(digest), start, end)
        if opened is None:
            raise ObjectFailure(f"{digest} was removed")
        async for piece in opened.chunks:
            yield piece

    async def _given(self, prefix: str) -> dict[Digest, Given]:
        """Return what is promised, and remove what is of no use any more."""
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
        await self._promises.discard(useless, before)
        return given

    def _gone(self, digest: Digest) -> None:
        self._sizes.pop(digest, None)
        self._contents.removed(digest)


def _state(digest: Digest, state: ObjectState, given: Given) -> BlobState:
    return BlobState(digest, state.size, given.promised, max(state.changed, given.changed))
