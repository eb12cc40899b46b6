# SPDX-License-Identifier: Apache-2.0
"""Staged blobs: acknowledged where they arrived, and moved to their keys when nobody waits.

What a session brought in parts is at the session's own key when its digest is known at last. Some
services can only copy it from there, which takes as long as a part of the push took. So a note is
written by which every replica finds the content where it is, and the client is answered. The
process moves it when no more arrives, and then removes the note. Another one does so for a process
that was killed. As long as there is a note, nobody removes what it tells of.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from buildset_registry.background import stop, supervised
from buildset_registry.errors import BlobUploadInvalid
from buildset_registry.latest import Latest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import UploadId
from buildset_registry.parallel import all_of, together
from buildset_registry.store.objects.clock import ServiceClock
from buildset_registry.store.objects.dialect import Dialect, ObjectFailure, ObjectState
from buildset_registry.store.objects.doubts import NOTE, Doubts
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.sessions import STARTED, STATE, SessionState
from buildset_registry.store.objects.small import SmallObject, SmallObjects

_VERSION = 1
#: Blobs that a process moves at once.
_TOGETHER = 2
#: Seconds for which nothing arrives before blobs are moved, and the longest that they wait for it.
_QUIET = 2.0
_LONGEST = 30.0
#: Seconds after which a note is one that a killed process left, and between two looks for some.
_LEFT = 300.0
_LOOK = 300.0
_FIRST_LOOK = 5.0
#: Seconds between tries, the first and the longest; and those that an end waits for all moves.
_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_CLOSING = 10.0
#: Seconds for which the place of what another process staged is known, and how many are.
_SEEN = 10.0
_REMEMBERED = 1024

_log = logging.getLogger("buildset_registry.store")


@dataclass(frozen=True, slots=True)
class StagedBlob:
    """A blob that is where it arrived."""

    digest: Digest
    note: str
    """The key of its note."""

    key: str
    """The key of its content."""

    size: int
    doubts: tuple[str, ...] = ()
    """Keys at which there may be parts of the session that nobody knows of."""

    changed: float = 0.0
    """When its note was written."""

    @property
    def folder(self) -> str:
        """The folder of the session that brought it."""
        return f"{self.key.rpartition('/')[0]}/"

    def encode(self) -> bytes:
        """Return the content of its note."""
        tree = {
            "version": _VERSION,
            "note": self.note,
            "key": self.key,
            "size": self.size,
            "doubts": self.doubts,
        }
        return json.dumps(tree, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, digest: Digest, found: SmallObject, note: str = "") -> StagedBlob | None:
        """Read a note; None where it is none that this release knows."""
        try:
            tree = json.loads(found.content)
            if tree["version"] != _VERSION:
                return None
            doubts = tuple(tree["doubts"])
            place = note or tree["note"]
            return cls(digest, place, tree["key"], tree["size"], doubts, found.changed)
        except (ValueError, KeyError, TypeError):
            return None


class Staging:
    """The staged blobs of a bucket, and those that this process moves."""

    def __init__(
        self, dialect: Dialect, keys: Keys, small: SmallObjects, clock: ServiceClock
    ) -> None:
        self.used = dialect.abilities.stages
        self._dialect = dialect
        self._keys = keys
        self._small = small
        self._clock = clock
        self._own: dict[Digest, tuple[StagedBlob, float]] = {}
        """What is staged here and not moved yet, and until when nobody else moves it."""

        self._seen: Latest[Digest, tuple[StagedBlob, float]] = Latest(_REMEMBERED)
        self._queue: deque[tuple[StagedBlob, float]] = deque()
        """What is to be moved, and when that is due, whatever arrives."""

        self._moving: set[str] = set()
        self._tried: set[str] = set()
        """The notes of what somebody may have begun to move before."""

        self._arrived = -_QUIET
        self._closing = asyncio.Event()
        self._mover: asyncio.Task[None] | None = None
        self._looker: asyncio.Task[None] | None = None

    # -- what is where

    def known(self, digest: Digest) -> StagedBlob | None:
        """Return where a blob is, or was a moment ago, as far as this process knows."""
        seen, until = self._seen.get(digest, (None, 0.0))
        own, _until = self._own.get(digest, (None, 0.0))
        return own or (seen if time.monotonic() < until else None)

    def held(self, digest: Digest) -> StagedBlob | None:
        """Return what this process staged, and surely nobody has moved and removed."""
        own, until = self._own.get(digest, (None, 0.0))
        return own if time.monotonic() < until else None

    def forget(self, digest: Digest) -> None:
        """Know no more where another process staged a blob."""
        self._seen.pop(digest, None)

    async def find(self, digest: Digest) -> StagedBlob | None:
        """Find a blob that is not at its key.

        A note may be left of a session that was removed beside a commit that was refused, or by
        another program: it tells of nothing.
        """
        if not self.used:
            return None
        noted, last = await all_of(self._all_noted(digest), self._last(digest))
        for one in (*noted, last):
            if one is None or await self._dialect.head(one.key) is None:
                continue
            self._seen[digest] = (one, time.monotonic() + _SEEN)
            return one
        return None

    async def holds(self, digest: Digest) -> bool:
        """Tell whether there is a note of a blob now."""
        if self.used:
            async for page in self._dialect.list(self._keys.staged_blob(digest)):
                if page.objects:
                    return True
            return await self._last(digest) is not None
        return False

    async def _all_noted(self, digest: Digest) -> list[StagedBlob]:
        """Return what the notes of a blob tell that are listed."""
        return [one async for one in self._noted(self._keys.staged_blob(digest))]

    async def _last(self, digest: Digest) -> StagedBlob | None:
        """Return what was staged last, whatever a list says: some lag."""
        found = await self._small.read(self._keys.staged_last(digest))
        return None if found is None else StagedBlob.decode(digest, found)

    async def is_noted(self, digest: Digest, upload_id: UploadId) -> bool:
        """Tell whether there is a note of what a session brought."""
        note = self._keys.staged_note(digest, upload_id)
        return await self._dialect.head(note) is not None

    async def all(self) -> Sequence[StagedBlob]:
        """Return all staged blobs."""
        return [one async for one in self._noted(self._keys.staged)] if self.used else []

    async def _noted(self, prefix: str, before: float | None = None) -> AsyncIterator[StagedBlob]:
        async for page in self._dialect.list(prefix):
            for one in page.objects:
                digest = self._keys.staged_of(one.key)
                if digest is None or (before is not None and one.changed >= before):
                    continue
                found = await self._small.read(one.key)
                staged = None if found is None else StagedBlob.decode(digest, found, one.key)
                if staged is not None:
                    yield staged

    # -- what comes

    def arriving(self) -> None:
        """Let what is to be moved wait, since a client is sending."""
        self._arrived = time.monotonic()

    async def stage(self, one: StagedBlob, version: str | None) -> None:
        """Have a complete blob known to every replica, whose session is claimed by a version.

        Who removes a session changes its state first, and then looks for a note. Here the note is
        first: of two at once, one sees the other.
        """
        content, state = one.encode(), f"{one.folder}{STATE}"
        await self._small.write(one.note, content)
        known, _gone, _noted = await all_of(
            self._dialect.head(state),
            # By that, distribution would purge what it takes for an upload.
            self._dialect.delete(f"{one.folder}{STARTED}"),
            # Never without the other one, which is found by whoever removes both.
            self._small.write(self._keys.staged_last(one.digest), content),
        )
        if known is None or known.version != version:
            await self._give_up(one, state)
            raise BlobUploadInvalid("another request ends this upload; wait for it")
        self.arriving()  # more of the same image may follow
        self._own[one.digest] = (one, time.monotonic() + _LEFT / 2)
        self._move_later(one)

    async def _give_up(self, one: StagedBlob, state: str) -> None:
        """Remove a note, unless it is also the one of another request, for the same blob."""
        found = await self._small.read(state)
        known = None if found is None else SessionState.decode(found.content)
        if known is None or known.committed != one.digest:
            await self._unnote(one)

    async def _unnote(self, one: StagedBlob) -> None:
        """Remove the notes; the one that is found without a list may be another session's."""
        last = await self._last(one.digest)
        if last is not None and last.key == one.key:
            await self._dialect.delete(self._keys.staged_last(one.digest))
        await self._dialect.delete(one.note)

    # -- what goes

    def start(self) -> None:
        """Look from time to time for what killed processes left."""
        if self.used:
            self._looker = supervised("the look for staged blobs", self._look)

    async def finish_left(self) -> None:
        """Move what killed processes left, now."""
        if not self.used:
            return
        before = self._clock.now() - _LEFT
        async for one in self._noted(self._keys.staged, before):
            if one.note not in self._moving:
                self._tried.add(one.note)
                await self._attempt(one)

    async def aclose(self) -> None:
        """Move all that waits, for a while; the rest is found by whoever starts next."""
        if self._looker is not None:
            await stop(self._looker)
        self._closing.set()
        if self._mover is not None:
            await asyncio.wait({self._mover}, timeout=_CLOSING)
            await stop(self._mover)

    async def _look(self) -> None:
        await asyncio.sleep(_FIRST_LOOK)
        while True:
            with contextlib.suppress(ObjectFailure):  # requests tell of that
                before = self._clock.now() - _LEFT
                async for one in self._noted(self._keys.staged, before):
                    if one.note not in self._moving:
                        self._tried.add(one.note)
                        self._move_later(one)
            await asyncio.sleep(_LOOK)

    def _move_later(self, one: StagedBlob) -> None:
        self._moving.add(one.note)
        self._queue.append((one, time.monotonic() + _LONGEST))
        if self._mover is None or self._mover.done():
            self._mover = supervised("the move of blobs", self._move_all)

    async def _move_all(self) -> None:
        pause = _PAUSE
        while self._queue:
            await self._until_quiet(self._queue[0][1])
            some = [self._queue.popleft() for _turn in range(min(_TOGETHER, len(self._queue)))]
            try:
                blobs = [one for one, _due in some]
                moved = await together(blobs, self._attempt, _TOGETHER)
            except BaseException:
                self._queue.extendleft(some)
                raise
            self._queue.extend(one for one, done in zip(some, moved, strict=True) if not done)
            if all(moved):
                pause = _PAUSE
            elif self._closing.is_set():
                return
            else:
                await self._rest(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _until_quiet(self, due: float) -> None:
        while not self._closing.is_set():
            left = min(self._arrived + _QUIET, due) - time.monotonic()
            if left <= 0:
                return
            await self._rest(left)

    async def _rest(self, seconds: float) -> None:
        """Wait, unless it all ends."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    async def _attempt(self, one: StagedBlob) -> bool:
        """Move a blob; False where that has to be tried again."""
        try:
            await self._move(one)
        except ObjectFailure as error:
            self._tried.add(one.note)
            _log.warning("%s is not moved to its key yet: %s", one.digest, error.strerror)
            return False
        self._moving.discard(one.note)
        self._tried.discard(one.note)
        return True

    async def _move(self, one: StagedBlob) -> None:
        target = self._keys.blob(one.digest)
        doubts = Doubts(self._dialect, self._small, one.folder)
        doubts.add(*one.doubts)
        if one.note in self._tried and await self._dialect.head(f"{one.folder}{NOTE}") is not None:
            doubts.add(target)  # there may be parts of an earlier try
        await doubts.note(target)
        try:
            await self._dialect.move(ObjectState(one.key, one.size, 0.0, ""), target)
        except ObjectFailure:
            if await self._dialect.head(one.key) is not None:
                raise
            # Another process was faster.
        final = await self._dialect.head(target)
        if final is None or final.size != one.size:
            if await self._dialect.head(one.key) is not None:
                raise ObjectFailure("the copy is not what was copied")
            if await self._dialect.head(one.note) is not None:
                _log.error("%s was removed by another program; push it again", one.digest)
        await self._end(one, doubts)

    async def _end(self, one: StagedBlob, doubts: Doubts) -> None:
        """Leave nothing but the blob; at last the state, by which others know whose the rest is."""
        await self._unnote(one)
        if self._own.get(one.digest, (None,))[0] == one:
            del self._own[one.digest]
        self.forget(one.digest)
        names = (STARTED, NOTE) if await doubts.settle() else (STARTED,)
        await together([f"{one.folder}{name}" for name in names], self._dialect.delete)
        await self._dialect.delete(f"{one.folder}{STATE}")
        self._small.forget([one.note, f"{one.folder}{STATE}"])
