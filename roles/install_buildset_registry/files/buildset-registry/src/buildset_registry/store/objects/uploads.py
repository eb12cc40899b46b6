# SPDX-License-Identifier: Apache-2.0
"""Uploads into objects: sessions that go on at any replica, and downloads from upstreams.

A session of which nothing arrived is nowhere: its identifier tells that it may be one. Where the
digest is known before the first byte, parts go to the blob's own key, and nobody sees them before
they are complete. Where it is not, they go to the session's ``data``, which is moved.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from buildset_registry.errors import BlobUploadUnknown, RegistryError
from buildset_registry.latest import Latest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, UploadId
from buildset_registry.parallel import together
from buildset_registry.store.base import UploadState
from buildset_registry.store.objects.blobs import ObjectBlobs
from buildset_registry.store.objects.clock import ServiceClock
from buildset_registry.store.objects.context import UploadContext
from buildset_registry.store.objects.dialect import Body, Condition, ConditionFailed, Dialect
from buildset_registry.store.objects.doubts import NOTE, noted
from buildset_registry.store.objects.keys import UPLOADS, Keys
from buildset_registry.store.objects.parts import PartBudget
from buildset_registry.store.objects.sessions import (
    DATA,
    STATE,
    SessionState,
    may_begin,
    new_id,
)
from buildset_registry.store.objects.small import SmallObject, SmallObjects
from buildset_registry.store.objects.staging import Staging
from buildset_registry.store.objects.upload import ObjectUpload
from buildset_registry.store.objects.walk import Repositories

#: Sessions in memory, each with as much as a part of what arrived last, in memory or in a file of
#: /tmp; and those that are known to have ended here.
_KEPT = 64
_ENDED = 8192
#: Seconds after which a download is surely none any more.
_ABANDONED = 24 * 3600.0

_Key = tuple[RepositoryName, UploadId]


@dataclass(frozen=True, slots=True)
class UploadPlaces:
    """The places of uploads, and what finds them."""

    dialect: Dialect
    keys: Keys
    small: SmallObjects
    blobs: ObjectBlobs
    staging: Staging
    repositories: Repositories
    clock: ServiceClock


class ObjectUploads:
    """Sessions of repositories by their identifiers; what is known of each is in the bucket."""

    def __init__(self, places: UploadPlaces, budget: PartBudget) -> None:
        self._places = places
        self._budget = budget
        self._sessions: Latest[_Key, ObjectUpload] = Latest(_KEPT)
        self._held: WeakValueDictionary[_Key, ObjectUpload] = WeakValueDictionary()
        self._ended: Latest[_Key, None] = Latest(_ENDED)

    async def create(self, name: RepositoryName) -> ObjectUpload:
        return self._keep(name, self._make(name, new_id(name)))

    async def resume(self, name: RepositoryName, upload_id: UploadId) -> ObjectUpload:
        key = (name, upload_id)
        if key in self._ended:
            raise BlobUploadUnknown
        upload = self._held.get(key) or self._make(name, upload_id)
        if not upload.busy:
            known = await upload.look()
            if upload.ended:
                raise BlobUploadUnknown
            if not known and key not in self._held and not may_begin(name, upload_id):
                raise BlobUploadUnknown
        # Another request may have found it while this one looked.
        return self._keep(name, self._held.get(key) or upload)

    async def ingest(self, digest: Digest) -> ObjectUpload:
        """Begin what no client asked to keep; it is read while it arrives, from a file."""
        upload_id = UploadId.new()
        context = self._context(self._places.keys.download(upload_id), lambda: None)
        return ObjectUpload(upload_id, context, ingested=digest, spool=self._budget.spool())

    async def all(self, *, tidy: bool = False) -> list[UploadState]:
        places = self._places
        found = {
            key: UploadState(key[0], key[1], upload.size, key[1].made or 0.0)
            for key, upload in self._sessions.items()
        }
        if tidy:
            await places.staging.finish_left()
            await self._abandon_downloads()
            await self._abandon_parts()
        for name in await places.repositories.with_uploads():
            prefix = f"{places.keys.repository(name)}{UPLOADS}"
            for upload_id, changed in (await self._stored(prefix)).items():
                state = await places.small.read(f"{prefix}{upload_id}/state")
                known = None if state is None else SessionState.decode(state.content)
                if await self._is_staged(upload_id, known):
                    continue
                size = 0 if known is None else known.size
                found[name, upload_id] = UploadState(name, upload_id, size, changed)
        return list(found.values())

    async def expire(self, state: UploadState) -> bool:
        key = (state.name, state.id)
        upload = self._held.get(key)
        if upload is not None and (upload.busy or upload.ended):
            return False
        folder = self._places.keys.upload(*key)
        if upload is not None and not await upload.look():
            if (state.id.made or 0.0) > state.changed:
                return False
            self._end(key)
            upload.ended = True
            return True
        stored = await self._places.small.read(f"{folder}state")
        if stored is not None and stored.changed > state.changed:
            return False
        if stored is None and not await self._is_there(folder):
            return False
        if stored is not None and not await self._may_remove(state.id, folder, stored):
            return False
        self._end(key)
        if upload is not None:
            upload.ended = True
        return await self._remove(folder, stored.content if stored else b"", state.changed)

    async def _is_staged(self, upload_id: UploadId, state: SessionState | None) -> bool:
        """Tell whether what a session brought is a blob where it is."""
        committed = None if state is None else state.committed
        staging = self._places.staging
        return committed is not None and await staging.is_noted(committed, upload_id)

    async def _may_remove(self, upload_id: UploadId, folder: str, stored: SmallObject) -> bool:
        """Keep others from making a blob of a session, and tell whether none has."""
        state = SessionState.decode(stored.content) or SessionState()
        if not self._places.staging.used or (state.upload is None and state.committed is None):
            return True  # nothing of it can be a blob
        ending = replace(state, ended=True, tail=b"").encode(Body(0, ()))
        content, condition = b"".join(ending.pieces), Condition(stored.version)
        try:
            await self._places.small.write(f"{folder}{STATE}", content, condition)
        except ConditionFailed:
            return False
        return not await self._is_staged(upload_id, state)

    async def _remove(self, folder: str, content: bytes, changed: float) -> bool:
        """Remove a session, with the parts that it may have at the service.

        What it noted may have been begun later than that, or be another session's, which brings the
        same blob: as long as that cannot be told, the note stays, and False is returned.
        """
        places, state = self._places, SessionState.decode(content) or SessionState()
        if state.upload is not None:
            await places.dialect.abort(state.upload)
        note = await places.small.read(f"{folder}{NOTE}")
        own, begun = f"{folder}{DATA}", {state.noted or "", *state.doubts}
        begun.update(noted(note.content) if note else ())
        before = max(changed + 1, places.clock.now() - _ABANDONED)
        gone = await places.dialect.abandon(own, math.inf)
        for key in begun - {"", own}:
            gone = await places.dialect.abandon(key, before) and gone
        if gone:
            await places.small.remove_all(folder)
        return gone

    async def _stored(self, prefix: str) -> dict[UploadId, float]:
        """Return the sessions of a repository, with when each was last changed."""
        found: dict[UploadId, float] = {}
        async for page in self._places.dialect.list(prefix):
            for one in page.objects:
                with contextlib.suppress(RegistryError):
                    upload_id = UploadId.parse(one.key[len(prefix) :].partition("/")[0])
                    found[upload_id] = max(found.get(upload_id, 0.0), one.changed)
        return found

    async def _is_there(self, folder: str) -> bool:
        async for page in self._places.dialect.list(folder):
            if page.objects:
                return True
        return False

    async def _abandon_downloads(self) -> None:
        """Remove the downloads that a process left which did not end well."""
        places = self._places
        stored = await self._stored(places.keys.downloads)
        before = places.clock.now() - _ABANDONED
        old = [one for one in stored if (one.made or 0.0) < before]

        async def abandon(upload_id: UploadId) -> None:
            folder = places.keys.download(upload_id)
            note = await places.small.read(f"{folder}state")
            await self._remove(folder, note.content if note else b"", stored[upload_id])

        await together(old, abandon)

    async def _abandon_parts(self) -> None:
        """Remove parts that are no session's: of a process that ended while it had no object."""
        places, before = self._places, self._places.clock.now() - _ABANDONED
        for prefix in (places.keys.blobs, places.keys.repositories):
            async for upload in places.dialect.stale(prefix, before):
                session = f"{upload.key.rpartition('/')[0]}/state"
                if await places.small.read(session) is None:
                    await places.dialect.abort(upload)

    def _make(self, name: RepositoryName, upload_id: UploadId) -> ObjectUpload:
        folder = self._places.keys.upload(name, upload_id)
        key = (name, upload_id)
        return ObjectUpload(upload_id, self._context(folder, lambda: self._end(key)))

    def _context(self, folder: str, end: Callable[[], None]) -> UploadContext:
        places = self._places
        return UploadContext(
            places.dialect,
            places.keys,
            places.small,
            places.blobs,
            places.staging,
            self._budget,
            folder,
            end,
        )

    def _keep(self, name: RepositoryName, upload: ObjectUpload) -> ObjectUpload:
        key = (name, upload.id)
        self._sessions[key] = self._held[key] = upload
        return upload

    def _end(self, key: _Key) -> None:
        self._sessions.pop(key, None)
        self._ended[key] = None
