# SPDX-License-Identifier: Apache-2.0
"""Azure's words for what is asked of a service of objects (Blob service REST API).

A blob that comes in parts is made of *blocks*, which Azure keeps invisible at the blob's own key,
and removes by itself after a week, or when another upload of the same blob is complete. That one
had the same content: who finds its blocks gone finds the blob instead.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from urllib.parse import quote, urlencode

from buildset_registry.config import AzureSettings
from buildset_registry.errors import ConfigError
from buildset_registry.parallel import together
from buildset_registry.store.azure import documents
from buildset_registry.store.azure.access import AzureAccess
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

_PART, _MOST_PARTS = 8 * 1024 * 1024, 50_000
#: Bytes of a block that is copied, and so many at once; of a blob that is copied whole.
_COPIED, _AT_ONCE, _COPIED_WHOLE = 64 * 1024 * 1024, 16, 256 * 1024 * 1024
_SAFE = "/~-._"
_TYPE = "application/octet-stream"
_NOTHING = Body(0, ())
_GONE = frozenset({"InvalidBlockList", "BlobNotFound"})
#: The tag of a part that was not sent, since a blob of another type is at the key.
_THERE = "there"


class AzureDialect:
    """One container."""

    def __init__(
        self, settings: AzureSettings, access: AzureAccess, copied_whole: int = _COPIED_WHOLE
    ) -> None:
        self._copied_whole = copied_whole
        self._settings = settings
        self._access = access
        self._connection = ServiceConnection(access, access.tls, Reasons(words=documents.words))
        self.abilities = Abilities(_PART, _MOST_PARTS)

    async def head(self, key: str) -> ObjectState | None:
        answer = await self._ask("HEAD", key)
        if self._is_absent(answer):
            return None
        self._check(answer, 200)
        return state_of(key, answer, _version(answer))

    async def get(self, key: str, start: int = 0, end: int | None = None) -> OpenObject | None:
        async def opened(offset: int) -> ServiceAnswer:
            headers, _status = ranged(offset, end)
            return await self._ask("GET", key, headers=headers, streamed=True)

        async def again(offset: int) -> ServiceAnswer:
            answer = await opened(offset)
            self._check(answer, ranged(offset, end)[1])
            return answer

        answer = await opened(start)
        if self._is_absent(answer):
            return None
        self._check(answer, ranged(start, end)[1])
        state = state_of(key, answer, _version(answer))
        stop = state.size if end is None else min(end, state.size)
        return OpenObject(state, streamed(answer, start, stop, again))

    async def put(self, key: str, content: Body, condition: Condition | None = None) -> str:
        headers = {"x-ms-blob-type": "BlockBlob", "Content-Type": _TYPE}
        if condition is not None and condition.version is None:
            headers["If-None-Match"] = "*"
        elif condition is not None:
            headers["If-Match"] = f'"{condition.version}"'
        answer = await self._ask("PUT", key, None, headers, content)
        refused = answer.status in (409, 412) or self._is_absent(answer)
        if condition is not None and refused:
            raise ConditionFailed(again=answer.unsure)
        self._check(answer, 201)
        return _version(answer)

    async def delete(self, key: str, *, plain: bool = False) -> None:
        headers = {"x-ms-delete-snapshots": "include"}
        answer = await self._ask("DELETE", key, headers=headers)
        if not self._is_absent(answer):
            self._check(answer, 202)

    async def list(self, prefix: str, *, shallow: bool = False) -> AsyncIterator[ObjectPage]:
        query = {"restype": "container", "comp": "list", "prefix": prefix}
        if shallow:
            query["delimiter"] = "/"
        while True:
            answer = await self._ask("GET", "", query)
            self._check(answer, 200)
            page, following = documents.read_page(answer.content)
            yield page
            if not following:
                return
            query["marker"] = following

    async def begin(self, key: str) -> PartUpload:
        return PartUpload(key, secrets.token_hex(8))

    async def put_part(self, upload: PartUpload, number: int, content: Body) -> ObjectPart:
        # A name of its own: two requests that send the same part do not spoil each other's.
        tag = documents.block_id(upload.id, number, secrets.token_hex(4))
        query = {"comp": "block", "blockid": tag}
        answer = await self._ask("PUT", upload.key, query, body=content)
        if documents.code(answer) == "InvalidBlobType":
            # distribution appends, and such a blob takes no blocks. The same content is there.
            return ObjectPart(number, content.size, _THERE)
        self._check(answer, 201)
        return ObjectPart(number, content.size, tag)

    async def complete(
        self, upload: PartUpload, parts: Sequence[ObjectPart], *, once: bool = False
    ) -> None:
        if any(part.tag == _THERE for part in parts):
            # Whether what is there is the same, its reader says.
            raise PartsGone
        content = documents.block_list(part.tag for part in parts)
        headers = {"x-ms-blob-content-type": _TYPE, **({"If-None-Match": "*"} if once else {})}
        body = Body(len(content), (content,))
        answer = await self._ask("PUT", upload.key, {"comp": "blocklist"}, headers, body)
        if documents.code(answer) in _GONE or (once and answer.status in (409, 412)):
            raise PartsGone
        self._check(answer, 201)

    async def abort(self, upload: PartUpload) -> None:
        """Azure removes what was not put together."""

    async def abandon(self, key: str, before: float) -> bool:
        """Azure removes what was not put together."""
        return True

    async def stale(self, prefix: str, before: float) -> AsyncIterator[PartUpload]:
        """Yield nothing: Azure removes what was not put together."""
        none: tuple[PartUpload, ...] = ()
        for one in none:
            yield one

    async def move(self, source: ObjectState, target: str) -> None:
        """Copy and delete; nothing is seen before all of it is there."""
        url = f"{self._url(source.key)}?{await self._access.query()}"
        if source.size <= self._copied_whole:
            headers = {"x-ms-copy-source": url, "x-ms-requires-sync": "true"}
            self._check(await self._ask("PUT", target, None, headers, _NOTHING), 202)
        else:
            await self._copy_blocks(source, url, target)
        await self.delete(source.key)

    async def sign(self, key: str) -> str | None:
        return f"{self._url(key)}?{await self._access.signed_query(key)}"

    async def probe(self) -> None:
        """Ask for a list, which says all that can be wrong."""
        query = {"restype": "container", "comp": "list", "maxresults": "1"}
        answer = await self._ask("GET", "", query)
        if answer.status != 200:
            cure = documents.cure(answer, self._settings.container)
            raise ConfigError(f"storage.azure: {self._connection.told(answer)}; {cure}")
        if b"EnumerationResults" not in answer.content:
            url = self._access.url
            raise ConfigError(f"storage.azure: {url} is not Azure's; correct serviceurl")

    async def aclose(self) -> None:
        await self._connection.aclose()

    async def _copy_blocks(self, source: ObjectState, url: str, target: str) -> None:
        upload = await self.begin(target)
        starts = range(0, source.size, _COPIED)

        async def copy(number: int) -> ObjectPart:
            start = starts[number]
            last = min(start + _COPIED, source.size) - 1
            tag = documents.block_id(upload.id, number)
            headers = {"x-ms-copy-source": url, "x-ms-source-range": f"bytes={start}-{last}"}
            query = {"comp": "block", "blockid": tag}
            self._check(await self._ask("PUT", target, query, headers, _NOTHING), 201)
            return ObjectPart(number, last - start + 1, tag)

        parts = await together(range(len(starts)), copy, _AT_ONCE)
        await self.complete(upload, parts)

    async def _ask(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        *,
        streamed: bool = False,
    ) -> ServiceAnswer:
        url = f"{self._url(key)}?{await self._access.query()}"
        if query:
            url += f"&{urlencode(query, quote_via=quote, safe='~-._')}"
        request = ServiceRequest(method, url, headers or {}, body, streamed)
        return await self._connection.ask(request)

    def _is_absent(self, answer: ServiceAnswer) -> bool:
        # A proxy without its service says 404, too: it has no code.
        return answer.status == 404 and documents.code(answer) not in ("", documents.NO_CONTAINER)

    def _check(self, answer: ServiceAnswer, *statuses: int) -> None:
        if answer.status not in statuses:
            raise self._connection.failure(answer)

    def _url(self, key: str) -> str:
        return f"{self._access.url}/{quote(key, safe=_SAFE)}" if key else self._access.url


def _version(answer: ServiceAnswer) -> str:
    return answer.headers.get("ETag", "").strip('"')
