# SPDX-License-Identifier: Apache-2.0
"""Swift's words for what is asked of a service of objects (OpenStack Object Storage API v1).

Conditions are looked at before an object is written, and are not kept where two write at once: so
nothing that counts rests on them. A part of an upload has a name of its own, what is known of the
upload names its parts, and the digest of all of it decides: of two requests that go on with one
upload at two replicas at the same moment, one may be forgotten, and what comes of it is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from buildset_registry.background import stop
from buildset_registry.config import SwiftSettings
from buildset_registry.errors import ConfigError
from buildset_registry.store.objects.connection import (
    ServiceAnswer,
    ranged,
    state_of,
    streamed,
)
from buildset_registry.store.objects.credentials import secret
from buildset_registry.store.objects.dialect import (
    Abilities,
    Body,
    Condition,
    ConditionFailed,
    ObjectFailure,
    ObjectPage,
    ObjectPart,
    ObjectState,
    OpenObject,
    PartUpload,
    check_part_size,
)
from buildset_registry.store.swift import documents
from buildset_registry.store.swift.access import SwiftAccess
from buildset_registry.store.swift.container import NEWEST, SwiftContainer, is_absent, version_of
from buildset_registry.store.swift.documents import SwiftAbilities
from buildset_registry.store.swift.segments import LargeObjects

_LEAST_PART = 1024 * 1024
#: A large object of large objects has this many segments at most, whatever else Swift allows.
_MOST_PARTS = 100_000
#: Segments that are on their way at once: one is written to the disks while another is read, and a
#: third one waits.
_TOGETHER = 3
#: Bytes for segments in memory: as many as three have by default.
_MEMORY = 48 * 1024 * 1024
#: For how long a temporary URL is good.
_SIGNED_SECONDS = 20 * 60
#: Seconds after which it is looked whether somebody gave the container another key, who keeps the
#: old one as the second key till then.
_KEY_SECONDS = 300
#: Bytes from which an object that is written whole may take the place of a large one.
_MAY_BE_LARGE = _LEAST_PART
_CONTAINER_KEY = "X-Container-Meta-Temp-Url-Key"
_ACCOUNT_KEY = "X-Account-Meta-Temp-Url-Key"


class SwiftDialect:
    """One container."""

    def __init__(self, settings: SwiftSettings, access: SwiftAccess) -> None:
        check_part_size("swift", settings.chunksize, _LEAST_PART)
        self._settings = settings
        self._access = access
        self._container = SwiftContainer(access, settings.container)
        prefix = settings.prefix.strip("/")
        self.large = LargeObjects(self._container, f"{prefix}/" if prefix else "")
        self._digest = ""
        self._given: str | None = secret(settings, "swift", "secretkey")
        self._key, self._looked = self._given, 0.0
        self._looking: asyncio.Task[None] | None = None
        self.abilities = Abilities(
            settings.chunksize,
            _MOST_PARTS,
            creates=False,
            swaps=False,
            lists=False,
            together=_TOGETHER,
            memory=_MEMORY,
            least_rest=_LEAST_PART,
            renames=True,
        )

    async def head(self, key: str) -> ObjectState | None:
        found = await self._container.head(key)
        return None if found is None else found.state

    async def get(self, key: str, start: int = 0, end: int | None = None) -> OpenObject | None:
        async def opened(offset: int) -> ServiceAnswer:
            headers, _status = ranged(offset, end)
            return await self._container.ask("GET", key, None, headers or NEWEST, streamed=True)

        async def again(offset: int) -> ServiceAnswer:
            answer = await opened(offset)
            self._container.check(answer, ranged(offset, end)[1])
            return answer

        answer = await opened(start)
        if is_absent(answer):
            return None
        self._container.check(answer, ranged(start, end)[1])
        state = state_of(key, answer, version_of(answer))
        stop = state.size if end is None else min(end, state.size)
        return OpenObject(state, streamed(answer, start, stop, again))

    async def put(self, key: str, content: Body, condition: Condition | None = None) -> str:
        if condition is None:
            if content.size >= _MAY_BE_LARGE:
                return version_of(await self.large.put_over(key, content))
            return version_of(await self._container.put(key, content))
        if condition.version is None:
            answer = await self._container.put(key, content, {"If-None-Match": "*"})
            if answer.status == 412:
                raise ConditionFailed(again=answer.unsure)
            return version_of(answer)
        found = await self.head(key)
        if found is None or found.version != condition.version:
            raise ConditionFailed
        return version_of(await self._container.put(key, content))

    async def delete(self, key: str, *, plain: bool = False) -> None:
        await (self._container.remove(key) if plain else self.large.remove(key))

    def list(self, prefix: str, *, shallow: bool = False) -> AsyncIterator[ObjectPage]:
        return self._container.list(prefix, shallow=shallow)

    async def begin(self, key: str) -> PartUpload:
        return await self.large.begin(key)

    async def put_part(self, upload: PartUpload, number: int, content: Body) -> ObjectPart:
        return await self.large.put_part(upload, number, content)

    async def complete(
        self, upload: PartUpload, parts: Sequence[ObjectPart], *, once: bool = False
    ) -> None:
        await self.large.complete(upload, parts, once=once)

    async def abort(self, upload: PartUpload) -> None:
        await self.large.abort(upload)

    async def abandon(self, key: str, before: float) -> bool:
        """``stale`` finds all of them."""
        return True

    def stale(self, prefix: str, before: float) -> AsyncIterator[PartUpload]:
        return self.large.stale(prefix, before)

    async def move(self, source: ObjectState, target: str) -> None:
        await self.large.move(source, target)

    async def sign(self, key: str) -> str | None:
        if self._key is None or not self._digest:
            return None
        if self._given is None and time.monotonic() > self._looked + _KEY_SECONDS:
            self._look_again()
        expires = int(time.time()) + _SIGNED_SECONDS
        return documents.signed_path(
            self._container.object_url(key), self._key, self._digest, expires
        )

    async def probe(self) -> None:
        """Ask for a list and for what this Swift can do, and have a key for temporary URLs."""
        answer = await self._container.ask("GET", "", {"limit": "1"})
        if answer.status not in (200, 204):
            words = self._container.told(answer)
            raise ConfigError(f"storage.swift: {words}; {self._cure(answer)}")
        told = await self._container.ask_url("GET", documents.info_url(self._access.url))
        found = SwiftAbilities.read(told.content)
        if self._settings.chunksize > found.largest:
            raise ConfigError(f"storage.swift.chunksize must be at most {found.largest} here")
        self.large.most = found.segments
        self._digest = found.digest or ""
        if self._digest and self._key is None:
            self._key = await self._find_key()
            self._looked = time.monotonic()

    async def aclose(self) -> None:
        if self._looking is not None:
            await stop(self._looking)
        await self._container.aclose()

    def _look_again(self) -> None:
        """Find out whether the key was replaced, while the one that is known is used."""
        self._looked = time.monotonic()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._find_again())

    async def _find_again(self) -> None:
        with contextlib.suppress(ObjectFailure):
            self._key = await self._find_key() or self._key

    async def _find_key(self) -> str | None:
        """Return the key of temporary URLs, after it was made where there was none."""
        stored = await self._container.ask("HEAD", "", headers=NEWEST)
        known = stored.headers.get(_CONTAINER_KEY)
        if not known and not self._settings.tempurlcontainerkey:
            account = await self._container.ask_url("HEAD", self._access.url)
            known = account.headers.get(_ACCOUNT_KEY)
        if known:
            return known
        made = documents.derived_key(self._access.seed, self._container.url)
        answer = await self._container.ask("POST", "", headers={_CONTAINER_KEY: made})
        return made if answer.status in (200, 202, 204) else None

    def _cure(self, answer: ServiceAnswer) -> str:
        name = self._settings.container
        if answer.status == 404:
            return f"make the container {name}, or correct its name"
        if answer.status in (401, 403):
            return f"give the user a role that may list and change the container {name}"
        return "correct authurl and region"
