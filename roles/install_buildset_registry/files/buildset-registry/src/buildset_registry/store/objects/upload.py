# SPDX-License-Identifier: Apache-2.0
"""One upload: what arrives is hashed, cut into parts, and becomes a blob if its digest is right."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator

from buildset_registry.errors import BlobUploadInvalid, BlobUploadUnknown, DigestInvalid
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import UploadId
from buildset_registry.parallel import all_of, to_its_end
from buildset_registry.store.objects.context import UploadContext
from buildset_registry.store.objects.dialect import Body, ObjectFailure, ObjectState, PartsGone
from buildset_registry.store.objects.doubts import NOTE, Doubts
from buildset_registry.store.objects.hashing import RunningDigest, digest_of, object_digest
from buildset_registry.store.objects.parts import PartWriter, Spool, SpoolReader, weakly
from buildset_registry.store.objects.record import SessionRecord
from buildset_registry.store.objects.sessions import DATA, STARTED, SessionState
from buildset_registry.store.objects.staging import StagedBlob

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
        self._record = SessionRecord(context)
        self._committed: Digest | None = None
        """What a request, maybe an earlier one, began to make of all that has arrived."""

        self._staged = False
        self._noted = False
        self._known_key: str | None = None
        """The key that the bucket's state tells of."""

        self._doubts = Doubts(context.dialect, context.small, context.folder)
        self._torn = False
        """Whether a chunk is hashed and not written whole."""

        self._digest = RunningDigest(ingested)
        self._writer: PartWriter | None = None
        self._begin(ingested)

    async def look(self) -> bool:
        """Find out what has arrived, at any replica; False where the bucket knows nothing of it."""
        with self._exclusive():
            known = self._record.version is not None
            if known and await self._record.is_current():
                return True
            state = await self._record.read()
            if state is not None and state.goes_on:
                self._load(state)
                return True
            if state is not None:
                self._leave()
            else:  # it ended elsewhere, or has not begun
                self._begin(None)
            return False

    async def append(self, chunks: AsyncIterator[bytes], *, last: Digest | None = None) -> None:
        with self._exclusive():
            if self._committed is not None:
                await self._take_again(chunks, last)
                return
            direct = last is not None and not self.size and self._ingested is None
            if direct:
                self._begin(last)
            writer = self._parts
            try:
                await self._take(chunks)
                if last is None and self._ingested is None:
                    await to_its_end(self._save())
            except BaseException as error:
                lost = direct or self._torn or isinstance(error, ObjectFailure)
                if self._writer is writer and (lost or self._ingested is None):
                    with contextlib.suppress(OSError):  # who asked is told of the first error
                        await to_its_end(self._fall_back() if lost else self._keep())
                raise

    async def commit(self, digest: Digest) -> None:
        with self._exclusive():
            if self._committed is not None:
                if digest != self._committed:
                    raise BlobUploadUnknown
                if await self._context.blobs.keep(digest) is not None:  # wherever that was done
                    self._leave()
                    return
            actual = self._hexdigest(digest.algorithm)
            try:
                if actual is None:
                    actual = await self._publish_unknown(digest)
                elif actual == digest.hex:
                    await self._publish(digest)
            except BaseException:
                await to_its_end(self._fall_back())
                raise
            with contextlib.suppress(ObjectFailure):  # the next collection does it
                await self._forget()
        if actual != digest.hex:
            raise DigestInvalid(
                f"content is {digest.algorithm}:{actual}, not {digest}; push it again"
            )

    async def cancel(self) -> None:
        if not self.ended:
            with self._exclusive():
                if self._committed is not None:
                    raise BlobUploadUnknown
                if self._record.version is not None:
                    self._doubts.add(self._doubts.own)
                if not await self._forget():
                    raise BlobUploadInvalid(_BUSY)

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
        writer.before = weakly(self._note)
        self._committed = None
        self._digest = RunningDigest(target)
        self.size = 0
        self._torn = False

    def _load(self, state: SessionState) -> None:
        """Go on with what another request, maybe another replica, left.

        The bucket's state counts as known when all of it is here: there may be no room for it.
        """
        version, self._record.version = self._record.version, None
        self._begin(None)
        writer, self._known_key = self._parts, state.noted
        self._committed = state.committed
        self._doubts.add(*state.doubts)
        if state.noted and not state.size:
            self._doubts.add(state.noted)  # it was about to come, and did not
        if state.upload is not None:
            writer.resume(state.upload, state.parts)
        if state.tail:
            writer.hold(state.tail)
        self.size = state.size
        self._digest.resume(state.hashed, state.tail if state.upload is None else None)
        self._record.version = version

    @property
    def _parts(self) -> PartWriter:
        writer = self._writer
        if writer is None:
            raise BlobUploadUnknown
        return writer

    async def _take(self, chunks: AsyncIterator[bytes]) -> None:
        writer = self._parts
        async for chunk in chunks:
            self._context.staging.arriving()
            self._torn = True
            self._digest.update(chunk)
            await writer.write(chunk)
            self.size += len(chunk)
            self._torn = False
        await to_its_end(writer.settle(self.size))

    async def _note(self) -> None:
        """Note what is about to be at the service, so that it can be found and removed."""
        key = self._parts.key
        if self._record.version is not None and key in (self._known_key, self._doubts.own):
            self._doubts.add(key)  # an earlier request may have come as far as this
            return
        note = SessionState(noted=key, doubts=self._doubts.keys).encode(Body(0, ()))
        if self._ingested is None:
            await self._swap(note)  # another replica may have begun with it
        else:
            await self._record.put(note)
        self._noted, self._known_key = True, key

    async def _keep(self) -> None:
        """Have what arrived before an error known, or nothing of it where some was not stored."""
        try:
            await self._save()
        except BaseException:
            await self._fall_back()
            raise

    async def _save(self) -> None:
        """Have what arrived known at every replica, before the client is told so."""
        await self._parts.round_off(self.size)
        if self._record.version is None or self._noted:
            await all_of(self._tell(), self._record.start(self.id.made))
        else:
            await self._tell()

    async def _tell(self) -> None:
        """Have the bucket tell of the parts: from now on it may, and nobody here ends them."""
        writer = self._parts
        self._noted = writer.began = False
        self._known_key = writer.key
        await self._swap(self._state().encode(writer.tail))

    def _state(self) -> SessionState:
        writer = self._parts
        return SessionState(
            self.size,
            writer.upload,
            tuple(writer.parts),
            self._digest.state,
            noted=writer.key,
            doubts=self._doubts_of(writer),
            committed=self._committed,
        )

    async def _swap(self, content: Body) -> None:
        found = await self._record.swap(content)
        if found is None:
            return
        # What was begun here is ended, and nothing of the request that was faster.
        known, writer = SessionState.decode(found), self._parts
        writer.began = known is None or known.upload != writer.upload
        self._noted = False
        await to_its_end(self._fall_back())
        raise BlobUploadInvalid(_BUSY)

    def _doubts_of(self, writer: PartWriter) -> tuple[str, ...]:
        """Return the keys at which there may be parts that nobody knows of, also of these."""
        if writer.doubtful:
            self._doubts.add(writer.key)
        return self._doubts.keys

    async def _fall_back(self) -> None:
        """Forget what this request brought; the next one begins with what the bucket knows."""
        writer = self._parts
        single = self._ingested is not None
        try:
            with contextlib.suppress(ObjectFailure):
                whole = self._noted or single
                await (writer.abort() if whole or writer.began else writer.stop())
                whole = whole and not self._doubts_of(writer)
                if whole and (single or await self._record.end(self._state())):
                    await self._context.small.remove_all(self._context.folder)
        finally:
            self._noted = False
            self._record.version = None
            self._begin(self._ingested)

    # -- what becomes of it

    def _hexdigest(self, algorithm: str) -> str | None:
        """Return the digest of what arrived; None where all of it has to be read for that."""
        found, writer = self._digest.hexdigest(algorithm), self._parts
        if found is None and writer.upload is None:
            return digest_of(writer.tail.pieces, algorithm)
        return found

    async def _publish(self, digest: Digest) -> None:
        """Make the content visible, in place of what may be there: that may have been damaged."""
        context, writer = self._context, self._parts
        key, promise = context.keys.blob(digest), self._ingested is None
        bring = context.blobs.bring(digest, promised=promise)
        if context.dialect.abilities.renames:
            writer.rename(key)
        if writer.upload is not None and writer.key != key:
            await self._publish_arrived(digest, bring)
        else:
            await all_of(bring, writer.round_off(self.size))
            if writer.upload is None:
                await context.dialect.put(key, writer.tail)
            elif not await self._complete(once=False):
                await self._check_other(digest, _DAMAGED)
        context.blobs.arrived(digest, self.size)

    async def _publish_arrived(self, digest: Digest, bring: Coroutine[None, None, None]) -> None:
        """Make visible what came in parts, of which nothing is at the blob's key yet."""
        context, key = self._context, self._context.keys.blob(digest)
        if context.staging.used:
            await all_of(bring, self._claim(digest))
            own = await self._complete(once=True)
        else:
            complete, noted = self._complete(once=True), self._doubts.note(key)
            _given, own, _noted = await all_of(bring, complete, noted)
        if not own:
            self._doubts.add(key)  # the other one may have begun to copy it there
            await self._check_other(digest, _BUSY)
        if context.staging.used:
            doubts, note = self._doubts_of(self._parts), context.keys.staged_note(digest, self.id)
            one = StagedBlob(digest, note, self._doubts.own, self.size, doubts)
            await context.staging.stage(one, self._record.version)
            self._staged = True
        else:
            await self._move(key)

    async def _claim(self, digest: Digest) -> None:
        """Be the one request that ends the session, where what it brought may stay there."""
        if self._context.staging.used:
            await self._parts.flush(self.size)
            self._committed = digest
            await self._tell()

    async def _take_again(self, chunks: AsyncIterator[bytes], last: Digest | None) -> None:
        """Pass over what has arrived: the answer to the request that brought it was lost."""
        if last != self._committed:
            raise BlobUploadUnknown
        async for _chunk in chunks:
            pass

    async def _publish_unknown(self, digest: Digest) -> str:
        """Read what is complete to know its digest, and make it visible where that is right."""
        context = self._context
        await self._claim(digest)
        await self._complete(once=True)
        actual = await object_digest(context.dialect, self._parts.key, digest.algorithm)
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
            await writer.finish(self.size, once=once)
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
        found = await object_digest(self._context.dialect, self._parts.key, digest.algorithm)
        if found != digest.hex:
            raise BlobUploadInvalid(why)

    async def _move(self, key: str) -> None:
        await self._context.dialect.move(ObjectState(self._parts.key, self.size, 0.0, ""), key)

    def _leave(self) -> None:
        """Take nothing more."""
        self.ended = True
        self._context.end()
        self._parts.drop()

    async def _forget(self) -> bool:
        """Leave nothing but the blob; False where another request is making something of it."""
        writer = self._parts
        data = [DATA] if writer.key == self._doubts.own and writer.parts else []
        if data and self._committed is None and not await self._record.end(self._state()):
            self._leave()
            return False
        self._leave()
        await writer.abort()
        self._doubts_of(writer)
        if self._record.version is not None and not self._staged:
            notes = [NOTE] if await self._doubts.settle() else []
            await self._record.remove([*data, STARTED, *notes])
        return True

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
