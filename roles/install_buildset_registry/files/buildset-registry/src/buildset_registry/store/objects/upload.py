# SPDX-License-Identifier: Apache-2.0
"""One upload: what arrives is hashed, cut into parts, and becomes a blob if its digest is right."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime, timezone
from weakref import WeakMethod

from buildset_registry.errors import BlobUploadInvalid, BlobUploadUnknown, DigestInvalid
from buildset_registry.oci.digest import Digest, Hasher, hasher
from buildset_registry.oci.names import UploadId
from buildset_registry.store.objects.context import UploadContext
from buildset_registry.store.objects.dialect import (
    ABSENT,
    Body,
    Condition,
    ConditionFailed,
    ObjectFailure,
    ObjectState,
    PartsGone,
)
from buildset_registry.store.objects.doubts import NOTE, Doubts
from buildset_registry.store.objects.hashing import ResumableSha256, resumable
from buildset_registry.store.objects.parts import PartWriter, Spool, SpoolReader
from buildset_registry.store.objects.sessions import SessionState
from buildset_registry.store.objects.small import together

#: The objects of a session, but for its note of doubts.
_OWN = ("data", "startedat", "state")
_DAMAGED = "what is stored of this blob is damaged, and was not replaced; push it again"
_BUSY = "another request is writing to this upload; wait for it to end"


class ObjectUpload:
    """An upload, from what the bucket knows of it to the blob; or a download, from its digest."""

    def __init__(
        self,
        upload_id: UploadId,
        context: UploadContext,
        *,
        ingested: Digest | None = None,
        spool: Spool | None = None,
    ) -> None:
        self.id = upload_id
        self.size = 0
        self.busy = False
        self.ended = False
        self._context = context
        self._ingested = ingested
        self._spool = spool
        self._version: str | None = None
        self._noted = False
        self._known_key: str | None = None
        """The key that the bucket's state tells of."""

        self._doubts = Doubts(context.dialect, context.small, context.folder)
        self._torn = False
        """Whether a chunk is hashed and not written whole."""

        self._hash: Hasher | None = None
        self._algorithm = "sha256"
        self._writer: PartWriter | None = None
        self._begin(ingested)

    async def look(self) -> bool:
        """Find out what has arrived, at any replica; False where the bucket knows nothing of it."""
        with self._exclusive():
            if self._version is not None:
                known = await self._context.dialect.head(self._context.state)
                if known is not None and known.version == self._version:
                    return True
            found = await self._context.small.read(self._context.state)
            if found is None:
                if self._version is not None:  # it ended elsewhere
                    self._begin(None)
                self._version = None
                return False
            self._load(SessionState.decode(found.content) or SessionState())
            self._version = found.version
            return True

    async def append(self, chunks: AsyncIterator[bytes], *, last: Digest | None = None) -> None:
        with self._exclusive():
            direct = last is not None and not self.size and self._ingested is None
            if direct:
                self._begin(last)
            try:
                await self._take(chunks)
                if last is None and self._ingested is None:
                    await self._save()
            except ObjectFailure:
                await asyncio.shield(self._fall_back())
                raise
            except BaseException:
                if direct or self._torn:
                    await asyncio.shield(self._fall_back())
                elif self._ingested is None:
                    await asyncio.shield(self._save())
                raise

    async def commit(self, digest: Digest) -> None:
        with self._exclusive():
            actual = self._hexdigest(digest.algorithm)
            try:
                if actual is None:
                    actual = await self._publish_unknown(digest)
                elif actual == digest.hex:
                    await self._publish(digest)
            except BaseException:
                await asyncio.shield(self._fall_back())
                raise
            await self._forget()
        if actual != digest.hex:
            raise DigestInvalid(
                f"content is {digest.algorithm}:{actual}, not {digest}; push it again"
            )

    async def cancel(self) -> None:
        if not self.ended:
            with self._exclusive():
                if self._version is not None:
                    self._doubts.add(self._doubts.own)
                await self._forget()

    def reader(self) -> SpoolReader:
        return SpoolReader(self._spool)

    # -- what arrives

    def _begin(self, target: Digest | None) -> None:
        """Begin with nothing; where the digest is known, at the blob's own key."""
        context = self._context
        key = self._doubts.own if target is None else context.keys.blob(target)
        if self._writer is not None:
            self._writer.drop()
        self._writer = writer = PartWriter(context.dialect, context.budget, key)
        writer.spool = self._spool
        writer.before = _weak(self._note)
        self._algorithm = "sha256" if target is None else target.algorithm
        self._hash = hasher(self._algorithm) if target is not None else resumable()
        if self._hash is None:
            self._hash = hasher("sha256")
        self.size = 0
        self._torn = False

    def _load(self, state: SessionState) -> None:
        """Go on with what another request, maybe another replica, left."""
        self._begin(None)
        writer, self._known_key = self._parts, state.noted
        self._doubts.add(*state.doubts)
        if state.noted and not state.size:
            self._doubts.add(state.noted)  # it was about to come, and did not
        if state.upload is not None:
            writer.resume(state.upload, state.parts)
        if state.tail:
            writer.hold(state.tail)
        self.size = state.size
        if state.hashed is not None:
            self._hash = resumable(state.hashed)
        elif state.upload is None:
            self._hash = resumable() or hasher("sha256")
            self._hash.update(state.tail)
        else:
            self._hash = None

    @property
    def _parts(self) -> PartWriter:
        writer = self._writer
        if writer is None:
            raise BlobUploadUnknown
        return writer

    async def _take(self, chunks: AsyncIterator[bytes]) -> None:
        writer = self._parts
        async for chunk in chunks:
            self._torn = True
            if self._hash is not None:
                self._hash.update(chunk)
            await writer.write(chunk)
            self.size += len(chunk)
            self._torn = False
        await writer.settle()

    async def _note(self) -> None:
        """Note what is about to be at the service, so that it can be found and removed."""
        key = self._parts.key
        if self._version is not None and key in (self._known_key, self._doubts.own):
            self._doubts.add(key)  # an earlier request may have come as far as this
            return
        note = SessionState(noted=key, doubts=self._doubts.keys).encode(Body(0, ()))
        if self._ingested is None:
            await self._swap(note)  # another replica may have begun with it
        else:
            self._version = await self._context.dialect.put(self._context.state, note)
        self._noted, self._known_key = True, key

    async def _save(self) -> None:
        """Have what arrived known at every replica, before the client is told so."""
        writer = self._parts
        await writer.settle()
        hashed = self._hash.state if isinstance(self._hash, ResumableSha256) else None
        state = SessionState(
            self.size,
            writer.upload,
            tuple(writer.parts),
            hashed,
            noted=writer.key,
            doubts=self._doubts_of(writer),
        )
        started = None
        if self._version is None or self._noted:
            started = asyncio.ensure_future(self._start())
        self._noted = writer.began = False
        self._known_key = writer.key
        try:
            await self._swap(state.encode(writer.tail))
        finally:
            if started is not None:
                await started

    async def _swap(self, content: Body) -> None:
        context = self._context
        condition = ABSENT if self._version is None else Condition(self._version)
        try:
            self._version = await context.dialect.put(context.state, content, condition)
        except ConditionFailed as error:
            found = await context.small.read(context.state)
            same = found is not None and found.content == b"".join(content.pieces)
            if found is None or not (same and error.again):
                await self._refused(found.content if found else b"")
                raise BlobUploadInvalid(_BUSY) from None
            self._version = found.version

    async def _refused(self, found: bytes) -> None:
        """End what was begun here, and nothing of the request that was faster."""
        known, writer = SessionState.decode(found), self._parts
        writer.began = known is None or known.upload != writer.upload
        self._noted = False
        await self._fall_back()

    def _doubts_of(self, writer: PartWriter) -> tuple[str, ...]:
        """Return the keys at which there may be parts that nobody knows of, also of these."""
        if writer.doubtful:
            self._doubts.add(writer.key)
        return self._doubts.keys

    async def _start(self) -> None:
        """Tell distribution when it began: its purge goes by that."""
        started = datetime.fromtimestamp(self.id.made or time.time(), timezone.utc)
        content = started.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
        await self._context.small.write(f"{self._context.folder}startedat", content)

    async def _fall_back(self) -> None:
        """Forget what this request brought; the next one begins with what the bucket knows."""
        writer = self._parts
        own = self._noted or self._ingested is not None
        with contextlib.suppress(ObjectFailure):
            await (writer.abort() if own or writer.began else writer.stop())
            if own and not self._doubts_of(writer):
                await self._context.small.remove_all(self._context.folder)
        self._noted = False
        self._version = None
        self._begin(self._ingested)

    # -- what becomes of it

    def _hexdigest(self, algorithm: str) -> str | None:
        """Return the digest of what arrived; None where all of it has to be read for that."""
        if self._hash is not None and algorithm == self._algorithm:
            return self._hash.hexdigest()
        writer = self._parts
        if writer.upload is not None:
            return None
        running = hashlib.new(algorithm)
        for piece in writer.tail.pieces:
            running.update(piece)
        return running.hexdigest()

    async def _publish(self, digest: Digest) -> None:
        """Make the content visible, in place of what may be there: that may have been damaged."""
        context, writer = self._context, self._parts
        key, promise = context.keys.blob(digest), self._ingested is None
        bring = context.blobs.bring(digest, promised=promise)
        if writer.upload is not None and writer.key != key:
            # Nothing of it is at the blob's key yet.
            _given, own, _noted = await asyncio.gather(
                bring, self._complete(once=True), self._doubts.note(key)
            )
            if not own:
                self._doubts.add(key)  # the other one may have begun to copy it there
                await self._check_other(digest, _BUSY)
            await self._move(key)
        else:
            await bring
            if writer.upload is None:
                await context.dialect.put(key, writer.tail)
            elif not await self._complete(once=False):
                await self._check_other(digest, _DAMAGED)
        context.blobs.arrived(digest, self.size)

    async def _publish_unknown(self, digest: Digest) -> str:
        """Read what is complete to know its digest, and make it visible where that is right."""
        context = self._context
        await self._complete(once=True)
        actual = await self._read(digest.algorithm)
        if actual == digest.hex:
            await context.blobs.bring(digest, promised=self._ingested is None)
            await self._doubts.note(context.keys.blob(digest))
            await self._move(context.keys.blob(digest))
            context.blobs.arrived(digest, self.size)
        return actual

    async def _complete(self, *, once: bool) -> bool:
        """Put the parts together; False where another request did it, maybe one that was killed."""
        writer, own = self._parts, True
        try:
            await writer.finish(once=once)
        except PartsGone:
            own = False
            self._doubts.add(self._doubts.own)
            state = await self._context.dialect.head(writer.key)
            if state is None or state.size != self.size:
                if await self._doubts.settle():
                    await self._context.small.remove_all(self._context.folder)
                raise BlobUploadUnknown from None
        writer.upload = None
        return own

    async def _check_other(self, digest: Digest, why: str) -> None:
        """Refuse what another replica put together, or left, unless it is what was sent here."""
        if await self._read(digest.algorithm) != digest.hex:
            raise BlobUploadInvalid(why)

    async def _read(self, algorithm: str) -> str:
        """Read what is complete, and return its digest."""
        opened = await self._context.dialect.get(self._parts.key)
        if opened is None:
            raise BlobUploadUnknown
        running = hashlib.new(algorithm)
        async for piece in opened.chunks:
            running.update(piece)
        return running.hexdigest()

    async def _move(self, key: str) -> None:
        source = ObjectState(self._parts.key, self.size, 0.0, "")
        await self._context.dialect.move(source, key)

    async def _forget(self) -> None:
        """Leave nothing but the blob."""
        self.ended = True
        self._context.end()
        writer = self._parts
        stored = self._version is not None
        await writer.abort()
        self._doubts_of(writer)
        if stored:
            # By their names: to ask for a list takes longer than all of them.
            names = (*_OWN, NOTE) if await self._doubts.settle() else _OWN
            keys = [f"{self._context.folder}{name}" for name in names]
            await together(keys, self._context.dialect.delete)
            self._context.small.forget(keys)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Let one request of this process use it, as long as it has not ended."""
        if self.busy:
            raise BlobUploadInvalid(_BUSY)
        if self.ended:
            raise BlobUploadUnknown
        self.busy = True
        try:
            yield
        finally:
            self.busy = False


def _weak(method: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Return a method that keeps its object not alive: what it holds goes with the last request."""
    known = WeakMethod(method)

    async def call() -> None:
        found = known()
        if found is not None:
            await found()

    return call
