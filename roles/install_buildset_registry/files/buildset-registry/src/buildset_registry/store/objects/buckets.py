# SPDX-License-Identifier: Apache-2.0
"""Buckets of services that speak as S3 does, each in words of its own: what they have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote, urlencode

from buildset_registry.parallel import to_its_end, together
from buildset_registry.store.objects import documents
from buildset_registry.store.objects.connection import (
    Reasons,
    ServiceAnswer,
    ServiceConnection,
    ServiceRequest,
    Signer,
    TlsTrust,
    ranged,
    state_of,
    streamed,
)
from buildset_registry.store.objects.dialect import (
    Abilities,
    Body,
    Condition,
    ConditionFailed,
    ObjectPage,
    ObjectPart,
    ObjectState,
    OpenObject,
    PartsGone,
    PartUpload,
)

MOST_PARTS = 10_000
_SAFE = "/~-._"
_NOTHING = Body(0, ())
#: The first byte: of it, an answer has a body if there is an object, and an error if there is none.
_FIRST_BYTE = {"Range": "bytes=0-0"}


class BucketAccess(Signer, Protocol):
    """Whoever signs requests to one bucket."""

    @property
    def url(self) -> str:
        """Return the URL of the bucket, without a slash at its end."""

    @property
    def tls(self) -> TlsTrust:
        """Return what the service is verified with."""

    async def signed_url(self, url: str) -> str:
        """Return a URL by which anybody can read an object for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketRules:
    """A service's words, and the sizes of what is asked of it at once."""

    bucket: str
    prefix: str
    """The beginning of the names of the service's own headers."""

    stored: Mapping[str, str] = field(default_factory=dict)
    """The headers by which an object is stored as it is to be."""

    least_part: int
    copied_whole: int = 32 * 1024 * 1024
    """Bytes up to which an object is copied whole."""

    copied_part: int = 32 * 1024 * 1024
    copied_at_once: int = 16


class BucketDialect:
    """One bucket."""

    def __init__(self, access: BucketAccess, rules: BucketRules, abilities: Abilities) -> None:
        self._access = access
        self._rules = rules
        self._connection = ServiceConnection(
            access, access.tls, Reasons(documents.is_passing, documents.words)
        )
        self.abilities = abilities

    async def head(self, key: str) -> ObjectState | None:
        answer = await self._ask("HEAD", key)
        if answer.status == 404 and await self._is_told_absent(key, answer):
            return None
        self._check(answer, 200)
        return state_of(key, answer, answer.headers.get("ETag", ""))

    async def get(self, key: str, start: int = 0, end: int | None = None) -> OpenObject | None:
        async def opened(offset: int) -> ServiceAnswer:
            headers, _status = ranged(offset, end)
            request = ServiceRequest("GET", self._url(key), headers, streamed=True)
            return await self._connection.ask(request)

        async def again(offset: int) -> ServiceAnswer:
            answer = await opened(offset)
            self._check(answer, ranged(offset, end)[1])
            return answer

        answer = await opened(start)
        if documents.is_absent(answer):
            return None
        self._check(answer, ranged(start, end)[1])
        state = state_of(key, answer, answer.headers.get("ETag", ""))
        stop = state.size if end is None else min(end, state.size)
        return OpenObject(state, streamed(answer, start, stop, again))

    async def put(self, key: str, content: Body, condition: Condition | None = None) -> str:
        headers = dict(self._rules.stored)
        if condition is not None:
            headers |= await self._conditional(key, condition)
        answer = await self._ask("PUT", key, headers=headers, body=content)
        if condition is not None and self._is_refused(answer):
            raise ConditionFailed(again=answer.unsure)
        self._check(answer, 200)
        return answer.headers.get("ETag", "")

    async def delete(self, key: str, *, plain: bool = False) -> None:
        answer = await self._ask("DELETE", key)
        if not documents.is_absent(answer):
            self._check(answer, 200, 204)

    async def list(self, prefix: str, *, shallow: bool = False) -> AsyncIterator[ObjectPage]:
        query = {"list-type": "2", "prefix": prefix}
        if shallow:
            query["delimiter"] = "/"
        while True:
            answer = await self._ask("GET", "", query)
            self._check(answer, 200)
            page, following = documents.read_page(answer.content)
            yield page
            if not following:
                return
            query["continuation-token"] = following

    async def begin(self, key: str) -> PartUpload:
        answer = await self._ask("POST", key, {"uploads": ""}, self._rules.stored, _NOTHING)
        self._check(answer, 200)
        upload_id = documents.text_of(answer.content, "UploadId")
        return PartUpload(key, upload_id, answer.unsure)

    async def put_part(self, upload: PartUpload, number: int, content: Body) -> ObjectPart:
        query = {"partNumber": str(number), "uploadId": upload.id}
        answer = await self._ask("PUT", upload.key, query, body=content)
        self._check_parts(answer, 200)
        return ObjectPart(number, content.size, answer.headers.get("ETag", ""))

    async def complete(
        self, upload: PartUpload, parts: Sequence[ObjectPart], *, once: bool = False
    ) -> None:
        """Put the parts together: that is done once, whatever is asked for."""
        content = documents.complete(parts)
        query = {"uploadId": upload.id}
        body = Body(len(content), (content,))
        self._check_parts(await self._ask("POST", upload.key, query, body=body), 200)

    async def abort(self, upload: PartUpload) -> None:
        answer = await self._ask("DELETE", upload.key, {"uploadId": upload.id})
        if not documents.is_absent(answer):
            self._check(answer, 200, 204)

    async def abandon(self, key: str, before: float) -> bool:
        gone = True
        async for upload, begun in self._unfinished(key):
            if upload.key == key and begun < before:
                await self.abort(upload)
            elif upload.key == key:
                gone = False
        return gone

    async def stale(self, prefix: str, before: float) -> AsyncIterator[PartUpload]:
        async for upload, begun in self._unfinished(prefix):
            if begun < before:
                yield upload

    async def _unfinished(self, prefix: str) -> AsyncIterator[tuple[PartUpload, float]]:
        """Yield what is on its way to keys of a prefix, and when each was begun."""
        query = {"uploads": "", "prefix": prefix}
        while True:
            answer = await self._ask("GET", "", query)
            self._check(answer, 200)
            uploads, following = documents.read_uploads(answer.content)
            for upload, begun in uploads:
                if upload.key.startswith(prefix):
                    yield upload, begun
            if not following or query.items() >= following.items():
                return
            query |= following

    async def move(self, source: ObjectState, target: str) -> None:
        """Copy and delete; what is large is copied in parts, which is faster, too."""
        if source.size <= self._rules.copied_whole:
            headers = {**self._rules.stored, **self._source(source.key)}
            self._check(await self._ask("PUT", target, headers=headers, body=_NOTHING), 200)
        else:
            await self._copy_in_parts(source, target)
        await self.delete(source.key)

    async def sign(self, key: str) -> str | None:
        return await self._access.signed_url(self._url(key))

    async def aclose(self) -> None:
        await self._connection.aclose()

    async def _conditional(self, key: str, condition: Condition) -> dict[str, str]:
        """Return the headers of a write under a condition."""
        raise NotImplementedError

    def _is_refused(self, answer: ServiceAnswer) -> bool:
        """Tell whether a write was refused because of its condition."""
        raise NotImplementedError

    async def _is_told_absent(self, key: str, answer: ServiceAnswer) -> bool:
        """Tell whether a 404 is the service's own: to HEAD, a proxy's looks the same."""
        if f"{self._rules.prefix}request-id" in answer.headers:
            return True
        return documents.is_absent(await self._ask("GET", key, headers=_FIRST_BYTE))

    async def _first_list(self) -> ServiceAnswer:
        """Ask for a list, which says all that can be wrong."""
        return await self._ask("GET", "", {"list-type": "2", "max-keys": "1"})

    async def _check_uploads(self) -> None:
        """See whether uploads in parts may be listed, which is a right of its own."""
        answer = await self._ask("GET", "", {"uploads": "", "max-uploads": "1"})
        if answer.status == 403:
            raise self._connection.failure(answer)

    async def _copy_in_parts(self, source: ObjectState, target: str) -> None:
        rules, upload = self._rules, await self.begin(target)
        size = max(rules.copied_part, -(-source.size // MOST_PARTS), rules.least_part)
        starts = range(0, source.size, size)

        async def copy(number: int) -> ObjectPart:
            start = starts[number]
            last = min(start + size, source.size) - 1
            query = {"partNumber": str(number + 1), "uploadId": upload.id}
            range_name = f"{rules.prefix}copy-source-range"
            headers = {**self._source(source.key), range_name: f"bytes={start}-{last}"}
            answer = await self._ask("PUT", target, query, headers, _NOTHING)
            self._check_parts(answer, 200)
            tag = documents.text_of(answer.content, "ETag")
            return ObjectPart(number + 1, last - start + 1, tag)

        try:
            parts = await together(range(len(starts)), copy, max(1, rules.copied_at_once))
            await self.complete(upload, parts)
        except BaseException:
            await to_its_end(self.abort(upload))
            raise

    async def _ask(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> ServiceAnswer:
        url = self._url(key)
        if query:
            url += f"?{urlencode(query, quote_via=quote, safe='~-._')}"
        return await self._connection.ask(ServiceRequest(method, url, headers or {}, body))

    def _check(self, answer: ServiceAnswer, *statuses: int) -> None:
        if answer.status not in statuses or documents.is_error(answer):
            raise self._connection.failure(answer)

    def _check_parts(self, answer: ServiceAnswer, status: int) -> None:
        if documents.code(answer) == "NoSuchUpload":
            raise PartsGone
        self._check(answer, status)

    def _url(self, key: str) -> str:
        return f"{self._access.url}/{quote(key, safe=_SAFE)}"

    def _source(self, key: str) -> dict[str, str]:
        place = f"/{self._rules.bucket}/{quote(key, safe=_SAFE)}"
        return {f"{self._rules.prefix}copy-source": place}
