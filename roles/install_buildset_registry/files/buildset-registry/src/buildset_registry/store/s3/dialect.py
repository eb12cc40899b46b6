# SPDX-License-Identifier: Apache-2.0
"""S3's words for what is asked of a service of objects (Amazon S3 API Reference, 2006-03-01)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from urllib.parse import quote, urlencode

from buildset_registry.config import S3Settings
from buildset_registry.errors import ConfigError
from buildset_registry.store.objects.connection import (
    Reasons,
    ServiceAnswer,
    ServiceConnection,
    ServiceRequest,
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
from buildset_registry.store.objects.small import together
from buildset_registry.store.s3 import documents
from buildset_registry.store.s3.access import S3Access

_LEAST_PART = 5 * 1024 * 1024
_MOST_PARTS = 10_000
_SAFE = "/~-._"
_NOTHING = Body(0, ())


class S3Dialect:
    """One bucket."""

    def __init__(self, settings: S3Settings, access: S3Access) -> None:
        if settings.chunksize < _LEAST_PART:
            raise ConfigError(f"storage.s3.chunksize must be at least {_LEAST_PART}")
        self._settings = settings
        self._access = access
        self._sent = _stored_as(settings)
        self._connection = ServiceConnection(
            access, access.tls, Reasons(documents.is_passing, documents.words)
        )
        self.abilities = Abilities(settings.chunksize, _MOST_PARTS)

    async def head(self, key: str) -> ObjectState | None:
        answer = await self._ask("HEAD", key)
        if answer.status == 404:
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
        # A proxy without its service says 404, too: what is no word of S3's tells of no object.
        if answer.status == 404 and documents.code(answer) not in ("", "NoSuchBucket"):
            return None
        self._check(answer, ranged(start, end)[1])
        state = state_of(key, answer, answer.headers.get("ETag", ""))
        stop = state.size if end is None else min(end, state.size)
        return OpenObject(state, streamed(answer, start, stop, again))

    async def put(self, key: str, content: Body, condition: Condition | None = None) -> str:
        headers = dict(self._sent)
        if condition is not None:
            name = "If-None-Match" if condition.version is None else "If-Match"
            headers[name] = condition.version or "*"
        answer = await self._ask("PUT", key, headers=headers, body=content)
        if condition is not None and answer.status in (404, 409, 412):
            if documents.code(answer) == "NoSuchBucket":
                raise self._connection.failure(answer)
            raise ConditionFailed(again=answer.unsure)
        self._check(answer, 200)
        return answer.headers.get("ETag", "")

    async def delete(self, key: str) -> None:
        self._check(await self._ask("DELETE", key), 200, 204, 404)

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
        answer = await self._ask("POST", key, {"uploads": ""}, self._sent, _NOTHING)
        self._check(answer, 200)
        return PartUpload(key, documents.text_of(answer.content, "UploadId"))

    async def put_part(self, upload: PartUpload, number: int, content: Body) -> ObjectPart:
        query = {"partNumber": str(number), "uploadId": upload.id}
        answer = await self._ask("PUT", upload.key, query, body=content)
        self._check_parts(answer, 200)
        return ObjectPart(number, content.size, answer.headers.get("ETag", ""))

    async def complete(
        self, upload: PartUpload, parts: Sequence[ObjectPart], *, once: bool = False
    ) -> None:
        """Put the parts together: S3 does so once, whatever is asked for."""
        content = documents.complete(parts)
        query = {"uploadId": upload.id}
        body = Body(len(content), (content,))
        self._check_parts(await self._ask("POST", upload.key, query, body=body), 200)

    async def abort(self, upload: PartUpload) -> None:
        answer = await self._ask("DELETE", upload.key, {"uploadId": upload.id})
        self._check(answer, 200, 204, 404)

    async def abandon(self, key: str, before: float) -> None:
        answer = await self._ask("GET", "", {"uploads": "", "prefix": key})
        self._check(answer, 200)
        for upload, begun in documents.read_uploads(answer.content):
            if upload.key == key and begun < before:
                await self.abort(upload)

    async def stale(self, prefix: str, before: float) -> AsyncIterator[PartUpload]:
        """Yield what the first page of a list has: the rest is there at the next collection."""
        answer = await self._ask("GET", "", {"uploads": "", "prefix": prefix})
        self._check(answer, 200)
        for upload, begun in documents.read_uploads(answer.content):
            if upload.key.startswith(prefix) and begun < before:
                yield upload

    async def move(self, source: ObjectState, target: str) -> None:
        """Copy and delete; what is large is copied in parts, which is faster, too."""
        if source.size <= self._settings.multipartcopythresholdsize:
            headers = {**self._sent, "x-amz-copy-source": self._source(source.key)}
            self._check(await self._ask("PUT", target, headers=headers, body=_NOTHING), 200)
        else:
            await self._copy_in_parts(source, target)
        await self.delete(source.key)

    async def sign(self, key: str) -> str | None:
        return await self._access.signed_url(self._url(key))

    async def probe(self) -> None:
        """Ask for a list, which says all that can be wrong."""
        settings = self._settings
        answer = await self._ask("GET", "", {"list-type": "2", "max-keys": "1"})
        if answer.status != 200:
            words = self._connection.told(answer)
            cure = documents.cure(answer, settings.bucket, self._access.region)
            raise ConfigError(f"storage.s3: {words}; {cure}")
        if b"ListBucketResult" not in answer.content:
            raise ConfigError(
                f"storage.s3: {self._access.url} does not answer as S3 does; correct regionendpoint"
            )

    async def aclose(self) -> None:
        await self._connection.aclose()

    async def _copy_in_parts(self, source: ObjectState, target: str) -> None:
        settings, upload = self._settings, await self.begin(target)
        size = max(settings.multipartcopychunksize, -(-source.size // _MOST_PARTS), _LEAST_PART)
        starts = range(0, source.size, size)

        async def copy(number: int) -> ObjectPart:
            start = starts[number]
            last = min(start + size, source.size) - 1
            query = {"partNumber": str(number + 1), "uploadId": upload.id}
            headers = {
                "x-amz-copy-source": self._source(source.key),
                "x-amz-copy-source-range": f"bytes={start}-{last}",
            }
            answer = await self._ask("PUT", target, query, headers, _NOTHING)
            self._check_parts(answer, 200)
            tag = documents.text_of(answer.content, "ETag")
            return ObjectPart(number + 1, last - start + 1, tag)

        try:
            most = max(1, settings.multipartcopymaxconcurrency)
            parts = await together(range(len(starts)), copy, most)
            await self.complete(upload, parts)
        except BaseException:
            await asyncio.shield(self.abort(upload))
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

    def _source(self, key: str) -> str:
        return f"/{self._settings.bucket}/{quote(key, safe=_SAFE)}"


def _stored_as(settings: S3Settings) -> dict[str, str]:
    """Return the headers by which an object is stored as it is to be."""
    headers = {"Content-Type": "application/octet-stream"}
    if settings.encrypt:
        headers["x-amz-server-side-encryption"] = "aws:kms" if settings.keyid else "AES256"
        if settings.keyid:
            headers["x-amz-server-side-encryption-aws-kms-key-id"] = settings.keyid
    if settings.storageclass:
        headers["x-amz-storage-class"] = settings.storageclass
    if settings.objectacl:
        headers["x-amz-acl"] = settings.objectacl
    if settings.useragent:
        headers["User-Agent"] = settings.useragent
    return headers
