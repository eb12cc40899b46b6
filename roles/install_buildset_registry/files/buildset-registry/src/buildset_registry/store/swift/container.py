# SPDX-License-Identifier: Apache-2.0
"""Requests for the objects of one container, each as Swift stores it: a manifest is an object."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from buildset_registry.parallel import together
from buildset_registry.store.objects.connection import (
    Reasons,
    ServiceAnswer,
    ServiceConnection,
    ServiceRequest,
    state_of,
)
from buildset_registry.store.objects.dialect import Body, ObjectPage, ObjectState
from buildset_registry.store.swift import documents
from buildset_registry.store.swift.access import SwiftAccess

#: Swift's own status for too many requests, besides those that all services have.
_SLOW_DOWN = 498
_PAGE = 2000
_TYPE = "application/octet-stream"
#: Headers of which each answer of Swift has one: the number of the request.
_NUMBERED = ("X-Trans-Id", "X-Openstack-Request-Id")
#: The newest of the copies, where an older one may still be somewhere.
NEWEST = {"X-Newest": "true"}


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object, and all that is said of it."""

    state: ObjectState
    headers: Mapping[str, str]


class SwiftContainer:
    """One container."""

    def __init__(self, access: SwiftAccess, name: str) -> None:
        self.name = name
        self.url = f"{access.url}/{documents.quoted(name)}"
        self._connection = ServiceConnection(
            access,
            access.tls,
            Reasons(lambda answer: answer.status == _SLOW_DOWN, documents.words),
        )

    async def head(self, key: str) -> StoredObject | None:
        """Return what is told of an object, or None where there is none."""
        answer = await self.ask("HEAD", key, headers=NEWEST)
        if is_absent(answer):
            return None
        self.check(answer, 200)
        return StoredObject(state_of(key, answer, version_of(answer)), answer.headers)

    async def read(self, key: str, query: Mapping[str, str] | None = None) -> bytes | None:
        """Return a small object whole."""
        answer = await self.ask("GET", key, query, NEWEST)
        if is_absent(answer):
            return None
        self.check(answer, 200)
        return answer.content

    async def put(
        self, key: str, content: Body, headers: Mapping[str, str] | None = None
    ) -> ServiceAnswer:
        """Write an object; a condition that does not hold is told by the status."""
        kind = _TYPE if content.size else documents.EMPTY_TYPE
        answer = await self.ask(
            "PUT", key, None, {"Content-Type": kind, **(headers or {})}, content
        )
        self.check(answer, 201, *(() if headers is None else (412,)))
        return answer

    async def remove(self, key: str) -> None:
        """Remove an object, and nothing that a manifest names."""
        answer = await self.ask("DELETE", key)
        if not is_absent(answer):
            self.check(answer, 200, 204)

    async def remove_all(self, prefix: str) -> None:
        """Remove all objects whose names begin with a prefix, as far as the list has them."""
        async for page in self.list(prefix):
            await together([one.key for one in page.objects], self.remove)

    async def list(
        self, prefix: str, *, shallow: bool = False, brief: bool = False
    ) -> AsyncIterator[ObjectPage]:
        """Yield the objects whose names begin with a prefix; see ``Objects.list``.

        ``brief``, a page that is not full is taken for the last one; a large container whose list
        is in several places may have more.
        """
        query = {"format": "json", "limit": str(_PAGE), "prefix": prefix}
        if shallow:
            query["delimiter"] = "/"
        while True:
            answer = await self.ask("GET", "", query)
            self.check(answer, 200, 204)
            found = documents.read_page(answer.content or b"[]")
            if not found.last:
                return
            yield await self._sized(found)
            if brief and len(found.page.objects) < _PAGE:
                return
            query["marker"] = found.last

    async def ask(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        *,
        streamed: bool = False,
    ) -> ServiceAnswer:
        """Ask for an object, or for the container where the key is empty."""
        url = self.object_url(key) if key else self.url
        if query:
            url += f"?{urlencode(query)}"
        request = ServiceRequest(method, url, headers or {}, body, streamed)
        return await self._connection.ask(request)

    async def ask_url(
        self, method: str, url: str, headers: Mapping[str, str] | None = None
    ) -> ServiceAnswer:
        """Ask for what is no object of the container."""
        return await self._connection.ask(ServiceRequest(method, url, headers or {}))

    def object_url(self, key: str) -> str:
        """Return the URL of an object."""
        return f"{self.url}/{documents.quoted(key)}"

    def check(self, answer: ServiceAnswer, *statuses: int) -> None:
        """Raise what a status says that is none of these."""
        if answer.status not in statuses:
            raise self._connection.failure(answer)

    def told(self, answer: ServiceAnswer) -> str:
        """Return what an answer says."""
        return self._connection.told(answer)

    async def aclose(self) -> None:
        """End all connections."""
        await self._connection.aclose()

    async def _sized(self, found: documents.ListPage) -> ObjectPage:
        """Return a page with the sizes of objects that the list takes for empty."""
        if not found.unsure:
            return found.page
        heads = await together(found.unsure, self.head)
        known = {one.state.key: one.state for one in heads if one is not None}
        objects = [known.get(one.key, one) for one in found.page.objects]
        return ObjectPage(objects, found.page.prefixes)


def is_absent(answer: ServiceAnswer) -> bool:
    """Tell whether Swift says that there is no such object: a proxy without it says 404, too."""
    return answer.status == 404 and any(name in answer.headers for name in _NUMBERED)


def version_of(answer: ServiceAnswer) -> str:
    """Return the ETag of an answer."""
    return answer.headers.get("ETag", "").strip('"')
