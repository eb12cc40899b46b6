# SPDX-License-Identifier: Apache-2.0
"""Small objects, read and written whole; and what is remembered of them, for seconds.

Only what is the same for ever may be remembered: a link, not what a tag points to. That one was
removed by another process is seen some seconds later.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from buildset_registry.latest import Latest
from buildset_registry.parallel import together
from buildset_registry.store.objects.dialect import (
    Body,
    Condition,
    ConditionFailed,
    ObjectFailure,
    Objects,
)

#: Seconds for which an object is taken to be there still.
_SECONDS = 3.0
_REMEMBERED = 8192
_LARGEST = 4096


@dataclass(frozen=True, slots=True)
class SmallObject:
    """An object, whole."""

    content: bytes
    changed: float
    version: str


class SmallObjects:
    """Reads and writes; what was there is remembered for a moment."""

    def __init__(self, objects: Objects, seconds: float = _SECONDS) -> None:
        self.objects = objects
        self._seconds = seconds
        self._known: Latest[str, tuple[SmallObject, float]] = Latest(_REMEMBERED)

    async def read(self, key: str) -> SmallObject | None:
        """Return an object as it is now."""
        opened = await self.objects.get(key)
        if opened is None:
            self._known.pop(key, None)
            return None
        content = b"".join([piece async for piece in opened.chunks])
        return SmallObject(content, opened.state.changed, opened.state.version)

    async def recall(self, key: str) -> SmallObject | None:
        """Return an object as it was some seconds ago; one that was not there then, as it is.

        While the service cannot tell, it is taken to be as it was last.
        """
        known, until = self._known.get(key, (None, 0.0))
        if known is not None and time.monotonic() < until:
            return known
        try:
            found = await self.read(key)
        except ObjectFailure:
            if known is None:
                raise
            return known
        if found is not None:
            self._keep(key, found)
        return found

    async def write(self, key: str, content: bytes, condition: Condition | None = None) -> str:
        """Write an object, and return its version."""
        self._known.pop(key, None)
        version = await put_once(self.objects, key, Body(len(content), (content,)), condition)
        self._keep(key, SmallObject(content, time.time(), version))
        return version

    async def remove(self, key: str) -> bool:
        """Remove an object, and tell whether it was there."""
        self._known.pop(key, None)
        if await self.objects.head(key) is None:
            return False
        await self.objects.delete(key, plain=True)
        self._known.pop(key, None)
        return True

    def forget(self, keys: Iterable[str]) -> None:
        """Remember nothing of objects that somebody removed."""
        for key in keys:
            self._known.pop(key, None)

    async def remove_all(self, prefix: str) -> bool:
        """Remove all objects whose keys begin with a prefix; tell whether there were any."""
        found = False
        async for page in self.objects.list(prefix):
            keys = [one.key for one in page.objects]
            found = found or bool(keys)
            self.forget(keys)
            await together(keys, self.objects.delete)
            self.forget(keys)
        return found

    def _keep(self, key: str, found: SmallObject) -> None:
        if len(found.content) > _LARGEST:
            return
        self._known[key] = (found, time.monotonic() + self._seconds)


async def put_once(objects: Objects, key: str, content: Body, condition: Condition | None) -> str:
    """Write an object under a condition, and return its version.

    The service may have done a try whose answer was lost: the next one fails then, by one's own
    object.
    """
    try:
        return await objects.put(key, content, condition)
    except ConditionFailed as failed:
        found = await objects.get(key) if failed.again else None
        if found is None or b"".join([one async for one in found.chunks]) != b"".join(
            content.pieces
        ):
            raise
        return found.state.version
