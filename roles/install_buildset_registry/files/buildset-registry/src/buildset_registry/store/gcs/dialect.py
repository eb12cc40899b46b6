# SPDX-License-Identifier: Apache-2.0
"""Google's words for what is asked of a service of objects (Cloud Storage JSON API v1).

An object that comes in parts is *composed* of objects in ``<root>/buildset-registry/parts/<id>``,
which are sent side by side and removed when it is complete. Google composes 32 objects at once, so
many parts are composed step by step; that moves no bytes.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from urllib.parse import quote, urlencode

from buildset_registry.config import GcsSettings
from buildset_registry.errors import ConfigError
from buildset_registry.parallel import together
from buildset_registry.store.gcs import documents
from buildset_registry.store.gcs.access import GcsAccess
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
    check_part_size,
)

_LEAST_PART, _MOST_PARTS = 1024 * 1024, 10_000
#: Objects that are composed at once.
_COMPOSED = 32
_OWNER = "owner"
_NOTHING = Body(0, ())


class GcsDialect:
    """One bucket."""

    def __init__(self, settings: GcsSettings, access: GcsAccess) -> None:
        check_part_size("gcs", settings.chunksize, _LEAST_PART)
        self._settings = settings
        self._access = access
        self._connection = ServiceConnection(access, access.tls, Reasons(words=documents.words))
        self._bucket = f"{access.url}/storage/v1/b/{settings.bucket}"
        self._upload = f"{access.url}/upload/storage/v1/b/{settings.bucket}/o"
        root = settings.rootdirectory.strip("/")
        self._parts = f"{root}/buildset-registry/parts/".lstrip("/")
        self.abilities = Abilities(settings.chunksize, _MOST_PARTS)

    async def head(self, key: str) -> ObjectState | None:
        answer = await self._ask("GET", self._url(key))
        if documents.is_absent(answer):
            return None
        self._check(answer, 200)
        return documents.read_object(answer.content)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> OpenObject | None:
        query = {"alt": "media"}

        async def opened(offset: int) -> ServiceAnswer:
            headers, _status = ranged(offset, end)
            return await self._ask("GET", self._url(key), query, headers, streamed=True)

        async def again(offset: int) -> ServiceAnswer:
            # The same content all along, though another one takes its place.
            query["generation"] = state.version
            answer = await opened(offset)
            self._check(answer, ranged(offset, end)[1])
            return answer

        answer = await opened(start)
        # To who asks for content, Google says so in words, which a proxy may have, too.
        if answer.status == 404 and await self.head(key) is None:
            return None
        self._check(answer, ranged(start, end)[1])
        state = state_of(key, answer, answer.headers.get("X-Goog-Generation") or None)
        stop = state.size if end is None else min(end, state.size)
        return OpenObject(state, streamed(answer, start, stop, again))

    async def put(self, key: str, content: Body, condition: Condition | None = None) -> str:
        query = {"uploadType": "media", "name": key}
        if condition is not None:
            query["ifGenerationMatch"] = condition.version or "0"
        headers = {"Content-Type": "application/octet-stream"}
        answer = await self._ask("POST", self._upload, query, headers, content)
        if condition is not None and answer.status == 412:
            raise ConditionFailed(again=answer.unsure)
        self._check(answer, 200)
        return documents.read_object(answer.content).version

    async def delete(self, key: str, *, plain: bool = False) -> None:
        answer = await self._ask("DELETE", self._url(key))
        if not documents.is_absent(answer):
            self._check(answer, 200, 204)

    async def list(self, prefix: str, *, shallow: bool = False) -> AsyncIterator[ObjectPage]:
        query = {"prefix": prefix, "fields": documents.FIELDS}
        if shallow:
            query["delimiter"] = "/"
        while True:
            answer = await self._ask("GET", f"{self._bucket}/o", query)
            self._check(answer, 200)
            page, following = documents.read_page(answer.content)
            yield page
            if not following:
                return
            query["pageToken"] = following

    async def begin(self, key: str) -> PartUpload:
        upload = PartUpload(key, secrets.token_hex(16))
        content = key.encode()
        await self.put(f"{self._parts}{upload.id}/{_OWNER}", Body(len(content), (content,)))
        return upload

    async def put_part(self, upload: PartUpload, number: int, content: Body) -> ObjectPart:
        # A name of its own: two requests that send the same part do not spoil each other's.
        name = f"{number:06d}-{secrets.token_hex(4)}"
        await self.put(f"{self._parts}{upload.id}/{name}", content)
        return ObjectPart(number, content.size, name)

    async def complete(
        self, upload: PartUpload, parts: Sequence[ObjectPart], *, once: bool = False
    ) -> None:
        names = [f"{self._parts}{upload.id}/{part.tag}" for part in parts]
        # Of two requests that complete it, none composes what the other one did.
        word, step = secrets.token_hex(4), 0
        while len(names) > _COMPOSED:
            step += 1
            groups = [names[start : start + _COMPOSED] for start in range(0, len(names), _COMPOSED)]
            targets = [
                f"{self._parts}{upload.id}/step-{word}-{step}-{number:06d}"
                for number in range(len(groups))
            ]
            await together(list(zip(targets, groups, strict=True)), self._compose_one)
            names = targets
        await self._compose(upload.key, names, {"ifGenerationMatch": "0"} if once else None)
        await self.abort(upload)

    async def abort(self, upload: PartUpload) -> None:
        async for page in self.list(f"{self._parts}{upload.id}/"):
            await together([one.key for one in page.objects], self.delete)

    async def abandon(self, key: str, before: float) -> bool:
        """``stale`` finds all of them."""
        return True

    async def stale(self, prefix: str, before: float) -> AsyncIterator[PartUpload]:
        async for page in self.list(self._parts, shallow=True):
            for folder in page.prefixes:
                noted = await self.get(f"{folder}{_OWNER}")
                if noted is None:
                    continue
                # All of it, also of what is too young: what is not read holds a connection.
                key = b"".join([piece async for piece in noted.chunks]).decode()
                if noted.state.changed < before and key.startswith(prefix):
                    yield PartUpload(key, folder[len(self._parts) : -1])

    async def move(self, source: ObjectState, target: str) -> None:
        """Rewrite and delete: within a bucket that moves no bytes."""
        url = f"{self._url(source.key)}/rewriteTo/b/{self._settings.bucket}/o/{_name(target)}"
        query: dict[str, str] = {}
        while True:
            answer = await self._ask("POST", url, query, body=_NOTHING)
            self._check(answer, 200)
            token = documents.rewrite_token(answer.content)
            if token is None:
                break
            query["rewriteToken"] = token
        await self.delete(source.key)

    async def sign(self, key: str) -> str | None:
        return await self._access.signed_url(key)

    async def probe(self) -> None:
        """Ask for a list, which says all that can be wrong."""
        answer = await self._ask("GET", f"{self._bucket}/o", {"maxResults": "1"})
        if answer.status != 200:
            cure = documents.cure(answer, self._settings.bucket)
            raise ConfigError(f"storage.gcs: {self._connection.told(answer)}; {cure}")
        if not documents.is_list(answer.content):
            raise ConfigError(
                f"storage.gcs: {self._access.url} does not answer as Google does; correct endpoint"
            )

    async def aclose(self) -> None:
        await self._connection.aclose()

    async def _compose_one(self, made: tuple[str, Sequence[str]]) -> None:
        await self._compose(*made)

    async def _compose(
        self, target: str, names: Sequence[str], query: Mapping[str, str] | None = None
    ) -> None:
        content = documents.composition(names)
        headers = {"Content-Type": "application/json"}
        body = Body(len(content), (content,))
        answer = await self._ask("POST", f"{self._url(target)}/compose", query, headers, body)
        if answer.status == 412 or documents.is_absent(answer):
            raise PartsGone
        self._check(answer, 200)

    async def _ask(
        self,
        method: str,
        url: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        *,
        streamed: bool = False,
    ) -> ServiceAnswer:
        if query:
            url += f"?{urlencode(query, quote_via=quote, safe='~-._')}"
        request = ServiceRequest(method, url, headers or {}, body, streamed)
        return await self._connection.ask(request)

    def _check(self, answer: ServiceAnswer, *statuses: int) -> None:
        if answer.status not in statuses:
            raise self._connection.failure(answer)

    def _url(self, key: str) -> str:
        return f"{self._bucket}/o/{_name(key)}"


def _name(key: str) -> str:
    return quote(key, safe="~-._")
