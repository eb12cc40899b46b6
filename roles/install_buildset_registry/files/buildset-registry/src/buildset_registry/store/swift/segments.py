# SPDX-License-Identifier: Apache-2.0
"""Large objects of Swift: whose the segments are, so that none is lost and none stays.

Below ``<prefix>/segments/buildset-registry/``, ``<id>/<number>-<random>`` are the segments of an
upload, and ``<id>/owner`` names the key whose they are. The manifest of a large object stands at
its key, and at another one where the object is moved: no byte of it is copied.

Who removes an object removes the segments that are its own, never another's: a process that is
killed while it moves one leaves two manifests of the same segments, and one of them may go.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from buildset_registry.latest import Latest
from buildset_registry.parallel import together
from buildset_registry.store.objects.connection import ServiceAnswer
from buildset_registry.store.objects.dialect import (
    Body,
    ObjectPart,
    ObjectState,
    PartsGone,
    PartUpload,
)
from buildset_registry.store.swift import documents
from buildset_registry.store.swift.container import StoredObject, SwiftContainer
from buildset_registry.store.swift.documents import Segment

_OWNER = "owner"
#: Uploads of which it is known for which key they were begun.
_REMEMBERED = 1024
#: Bytes below which a segment is named by its content: two last requests of one session, of which a
#: proxy sends the second while the first goes on, have the same one.
_SMALL = 1024 * 1024
_RAW = {"multipart-manifest": "get", "format": "raw"}


@dataclass(frozen=True, slots=True)
class _Manifest:
    """What a large object is made of."""

    content: bytes
    """It as it is put; empty for what distribution put together."""

    segments: Sequence[Segment] = ()
    dynamic: str = ""
    """The beginning of the names of what distribution put together."""


class LargeObjects:
    """The large objects of a container."""

    def __init__(self, container: SwiftContainer, prefix: str) -> None:
        self.most = 1000
        """Segments of one manifest."""

        self._container = container
        self._folder = f"{prefix}segments/buildset-registry/"
        self._path = f"/{container.name}/{self._folder}"
        self._begun: Latest[str, str] = Latest(_REMEMBERED)

    async def begin(self, key: str) -> PartUpload:
        """Begin an object, and note whose its segments are."""
        upload = PartUpload(key, secrets.token_hex(16))
        await self._own(key, upload.id)
        self._begun[upload.id] = key
        return upload

    async def put_part(self, upload: PartUpload, number: int, content: Body) -> ObjectPart:
        """Send a segment, under a name that no other request uses for other content."""
        word = documents.word_of(content) if content.size < _SMALL else secrets.token_hex(8)
        name = f"{number:06d}-{word}"
        answer = await self._container.put(f"{self._folder}{upload.id}/{name}", content)
        etag = answer.headers.get("ETag", "").strip('"')
        return ObjectPart(number, content.size, f"{etag}/{name}")

    async def complete(
        self, upload: PartUpload, parts: Sequence[ObjectPart], *, once: bool = False
    ) -> None:
        """Put the manifest, and remove what was sent and is not in it."""
        if once and await self._container.head(upload.key) is not None:
            raise PartsGone
        segments = documents.segments_of(parts, f"{self._path}{upload.id}/")
        top = segments if len(segments) <= self.most else await self._nested(upload, segments)
        if self._begun.get(upload.id, "") != upload.key:
            await self._claim(upload)
        await self._replace(upload.key, documents.manifest(top), {upload.id})
        await self._tidy(upload, segments, top)

    async def abort(self, upload: PartUpload) -> None:
        """Remove the segments, unless an object is made of them."""
        owner = await self._owner(upload.id)
        if not await self._refers(owner or upload.key, upload.id):
            await self._remove_all(upload.id)

    async def stale(self, beginning: str, before: float) -> AsyncIterator[PartUpload]:
        """Yield what was begun before a time, and what no object is made of."""
        async for page in self._container.list(self._folder, shallow=True):
            for prefix in page.prefixes:
                upload_id = prefix[len(self._folder) : -1]
                noted = await self._container.head(f"{self._folder}{upload_id}/{_OWNER}")
                if noted is None or noted.state.changed >= before:
                    continue
                owner = await self._owner(upload_id)
                if owner is None or not owner.startswith(beginning):
                    continue
                if not await self._refers(owner, upload_id):
                    yield PartUpload(owner, upload_id)

    async def move(self, source: ObjectState, target: str) -> None:
        """Give an object another key."""
        found = await self._made_of(source.key)
        if found is None or not found.content:
            place = f"/{documents.quoted(self._container.name)}/{documents.quoted(source.key)}"
            await self._container.put(target, Body(0, ()), {"X-Copy-From": place})
            await self.remove(source.key)
            return
        ids = self._ids(found.segments)
        for upload_id in ids:
            await self._own(target, upload_id)
        await self._replace(target, found.content, ids)
        await self._container.remove(source.key)

    async def put_over(self, key: str, content: Body) -> ServiceAnswer:
        """Write an object whole in place of one that may be large, which is there till then."""
        old = await self._made_of(key)
        answer = await self._container.put(key, content)
        if old is not None:
            await self._release(key, old, set())
        return answer

    async def remove(self, key: str) -> None:
        """Remove an object, and the segments that are its own."""
        stored = await self._container.head(key)
        if stored is None:
            return
        found = await self._manifest(stored)
        await self._container.remove(key)
        if found is not None:
            await self._release(key, found, set())

    async def _nested(self, upload: PartUpload, segments: Sequence[Segment]) -> list[Segment]:
        """Put objects together of which the object is put together: more than fit one manifest."""
        found = []
        for start in range(0, len(segments), self.most):
            some = segments[start : start + self.most]
            name = f"part-{start:06d}"
            key = f"{self._folder}{upload.id}/{name}"
            etag = await self._put_manifest(key, documents.manifest(some))
            found.append(
                Segment(f"{self._path}{upload.id}/{name}", etag, sum(s.size for s in some))
            )
        return found

    async def _replace(self, key: str, content: bytes, ids: set[str]) -> None:
        """Put a manifest in place of any other object, and remove what that was made of."""
        old = await self._made_of(key)
        await self._put_manifest(key, content)
        if old is not None:
            await self._release(key, old, ids)

    async def _put_manifest(self, key: str, content: bytes) -> str:
        query = {"multipart-manifest": "put"}
        headers = {"Content-Type": "application/octet-stream"}
        body = Body(len(content), (content,))
        answer = await self._container.ask("PUT", key, query, headers, body)
        if documents.segments_gone(answer):
            raise PartsGone
        self._container.check(answer, 201)
        return answer.headers.get("ETag", "").strip('"')

    async def _made_of(self, key: str) -> _Manifest | None:
        stored = await self._container.head(key)
        return None if stored is None else await self._manifest(stored)

    async def _manifest(self, stored: StoredObject) -> _Manifest | None:
        """Return what an object is made of; None for one that is not put together."""
        kind = documents.large_object(stored.headers)
        if kind == "dynamic":
            container, prefix = documents.dynamic_prefix(stored.headers)
            return _Manifest(b"", dynamic=prefix if container == self._container.name else "")
        if kind is None:
            return None
        content = await self._container.read(stored.state.key, _RAW)
        return None if content is None else _Manifest(content, documents.read_manifest(content))

    async def _release(self, key: str, found: _Manifest, kept: set[str]) -> None:
        """Remove what an object was made of that is gone, but for some uploads' segments."""
        if found.dynamic:
            await self._container.remove_all(found.dynamic)
        for upload_id in self._ids(found.segments) - kept:
            owner = await self._owner(upload_id)
            if owner in (None, key) or not await self._refers(owner, upload_id):
                inside = f"{self._path}{upload_id}/"
                names = [one.path for one in found.segments if one.path.startswith(inside)]
                # By name, since the list may not have all of them yet.
                start = len(self._container.name) + 2
                await together([name[start:] for name in names], self._container.remove)
                await self._remove_all(upload_id)

    async def _refers(self, key: str | None, upload_id: str) -> bool:
        """Tell whether an object is made of an upload's segments."""
        found = None if key is None else await self._made_of(key)
        return found is not None and upload_id in self._ids(found.segments)

    async def _claim(self, upload: PartUpload) -> None:
        """Note that segments are to become an object of another key than they were begun for.

        ``PartsGone`` where they are one by now, or are about to be: two objects would have them,
        and be lost with the first of both that is removed.
        """
        owner = await self._owner(upload.id)
        other = owner not in (upload.key, self._begun.get(upload.id, ""))
        if other and await self._refers(owner, upload.id):
            raise PartsGone
        await self._own(upload.key, upload.id)
        if await self._owner(upload.id) != upload.key:
            raise PartsGone

    async def _tidy(
        self, upload: PartUpload, segments: Sequence[Segment], top: Sequence[Segment]
    ) -> None:
        """Remove what was sent and is not in the manifest, as long as that one stands."""
        kept = {one.path for one in (*segments, *top)}
        others = [name async for name in self._segments(upload.id) if self._at(name) not in kept]
        if not others:
            return
        found = await self._made_of(upload.key)
        if found is not None and list(found.segments) == list(top):
            await together(others, self._container.remove)

    async def _remove_all(self, upload_id: str) -> None:
        """Remove the segments of an upload; whose they were, at last."""
        names = [name async for name in self._segments(upload_id)]
        await together(names, self._container.remove)
        await self._container.remove(f"{self._folder}{upload_id}/{_OWNER}")

    async def _segments(self, upload_id: str) -> AsyncIterator[str]:
        """Yield the names of an upload's segments, as far as the list has them."""
        async for page in self._container.list(f"{self._folder}{upload_id}/", brief=True):
            for one in page.objects:
                if not one.key.endswith(_OWNER):
                    yield one.key

    def _at(self, name: str) -> str:
        """Return an object's name as it stands in a manifest."""
        return f"/{self._container.name}/{name}"

    async def _own(self, key: str, upload_id: str) -> None:
        content = key.encode()
        place = f"{self._folder}{upload_id}/{_OWNER}"
        await self._container.put(place, Body(len(content), (content,)))

    async def _owner(self, upload_id: str) -> str | None:
        content = await self._container.read(f"{self._folder}{upload_id}/{_OWNER}")
        return None if content is None else content.decode()

    def _ids(self, segments: Iterable[Segment]) -> set[str]:
        """Return the uploads whose segments these are."""
        start = len(self._path)
        own = (one.path for one in segments if one.path.startswith(self._path))
        return {path[start:].partition("/")[0] for path in own}
