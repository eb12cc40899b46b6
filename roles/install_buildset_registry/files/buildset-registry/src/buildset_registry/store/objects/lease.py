# SPDX-License-Identifier: Apache-2.0
"""The lease of the process that does some work alone: an object that it writes again and again.

Nobody's clock is compared with another's. Who wants a lease that somebody has watches it: one that
nobody wrote for a while, by the watcher's own clock, is that of a process that died. Two that
collect at once would only do the same twice: removals are safe beside each other (``promises``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from buildset_registry.background import stop
from buildset_registry.parallel import to_its_end
from buildset_registry.store.objects.dialect import (
    ABSENT,
    Condition,
    ConditionFailed,
    ObjectFailure,
)
from buildset_registry.store.objects.small import SmallObject, SmallObjects

_log = logging.getLogger("buildset_registry.gc")


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """The times of a lease, in seconds."""

    renewed: float = 10.0
    dead: float = 60.0
    looked: float = 1.0
    settled: float = 2.0
    """After which one that has no conditions is whose it is."""


class Lease:
    """A lease in a bucket; a process may want it again and again."""

    def __init__(
        self,
        small: SmallObjects,
        key: str,
        *,
        conditions: bool = True,
        times: LeaseTimes | None = None,
        work: str = "collection",
    ) -> None:
        self._small = small
        self._key = key
        self._work = work
        self._conditions = conditions
        self._times = times or LeaseTimes()
        self._word = secrets.token_hex(8)
        self._seen: tuple[str, float] = ("", 0.0)
        """The version of another's lease that was seen last, and when first."""

    @asynccontextmanager
    async def held(self, *, wait: bool) -> AsyncIterator[bool]:
        """Have it for a while; False where another one has it, and nobody is to wait."""
        version = await self._take()
        if version is None and wait:
            await self._tell()
        while version is None and wait:
            await asyncio.sleep(self._times.looked)
            version = await self._take()
        if version is None:
            yield False
            return
        renewing = asyncio.ensure_future(self._renew(version))
        try:
            yield True
        finally:
            await stop(renewing)
            await to_its_end(self._release())

    async def _tell(self) -> None:
        """Say whom it waits for, and for how long if that one was killed."""
        found = await self._small.read(self._key)
        if found is not None:
            _log.warning(
                "the %s waits for %s, which has begun one; for %d s if it was killed",
                self._work,
                _holder(found.content),
                self._times.dead,
            )

    async def _take(self) -> str | None:
        """Write it, if nobody has it, or who has it died; return its version."""
        found = await self._small.read(self._key)
        if found is not None and not self._is_dead(found):
            return None
        condition = ABSENT if found is None else Condition(found.version)
        version = await self._write(condition)
        if version is not None and not self._conditions:
            await asyncio.sleep(self._times.settled)
            now = await self._small.read(self._key)
            return version if now is not None and self._is_ours(now) else None
        return version

    async def _write(self, condition: Condition) -> str | None:
        tree = {"host": socket.gethostname(), "pid": os.getpid(), "word": self._word}
        content = json.dumps({**tree, "turn": secrets.token_hex(4)}).encode()
        try:
            return await self._small.write(
                self._key, content, condition if self._conditions else None
            )
        except ConditionFailed:
            return None

    def _is_dead(self, found: SmallObject) -> bool:
        version, since = self._seen
        if found.version != version:
            self._seen = (found.version, time.monotonic())
            return False
        return time.monotonic() - since > self._times.dead

    def _is_ours(self, found: SmallObject) -> bool:
        return self._word.encode() in found.content

    async def _renew(self, version: str) -> None:
        current: str | None = version
        while current is not None:
            await asyncio.sleep(self._times.renewed)
            try:
                current = await self._write_again(current)
            except ObjectFailure as error:
                _log.warning("the lease of the %s is not renewed: %s", self._work, error.strerror)
        _log.warning("another process took the %s over; this one goes on, too", self._work)

    async def _write_again(self, version: str) -> str | None:
        """Write it once more; None where it is another's now."""
        if not self._conditions:
            found = await self._small.read(self._key)
            if found is None or not self._is_ours(found):
                return None
        return await self._write(Condition(version))

    async def _release(self) -> None:
        with contextlib.suppress(ObjectFailure):
            found = await self._small.read(self._key)
            if found is not None and self._is_ours(found):
                await self._small.remove(self._key)


def _holder(content: bytes) -> str:
    """Return whose a lease is, in words."""
    try:
        tree = json.loads(content)
        return f"process {int(tree['pid'])} on {str(tree['host'])!r}"
    except (ValueError, KeyError, TypeError):
        return "another process"
