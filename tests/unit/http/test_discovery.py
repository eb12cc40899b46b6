# SPDX-License-Identifier: Apache-2.0
"""Long lists of referrers: what one request asks of the store is bounded, whatever is filtered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from buildset_registry.http.discovery import referrers
from buildset_registry.http.request import Request
from buildset_registry.http.response import Bytes, Response
from buildset_registry.oci.descriptor import OCI_MANIFEST, Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.registry import Registry
from buildset_registry.store.base import Store
from buildset_registry.store.memory import MemoryStore
from buildset_registry.store.objects import keys
from buildset_registry.store.objects.blobs import BlobRules
from buildset_registry.store.objects.dialect import ObjectPage, ObjectState, OpenObject
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.store import ObjectStore

from tests.unit.store.objects.imagined import ImaginedService

NAME = RepositoryName("app")
SUBJECT = Digest.of(b"subject")
#: How many refer to the subject; the last one of the list is of a type of its own.
MANY = 3000
REFERRERS = [Digest("sha256", f"{number:064x}") for number in range(MANY)]
RARE = REFERRERS[-1]


def descriptor(digest: Digest) -> Descriptor:
    return Descriptor(OCI_MANIFEST, digest, 2, None, "a/rare" if digest == RARE else "a/usual")


class CountingService(ImaginedService):
    """A bucket that holds the referrers, and counts what it is asked."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked = self.running = self.most = 0
        names = Keys()
        folder = names.repository(NAME)
        listed = keys.referrers(folder, SUBJECT)
        for one in REFERRERS:
            note = json.dumps(descriptor(one).to_json()).encode()
            for key, content in (
                (names.blob(one), b"{}"),
                (keys.link(keys.revisions(folder), one), str(one).encode()),
                (keys.link(listed, one), str(one).encode()),
                (keys.descriptor(listed, one), note),
            ):
                self.objects[key] = (content, 1.0)

    async def _wait(self) -> None:
        await asyncio.sleep(0)

    async def head(self, key: str) -> ObjectState | None:
        self.asked += 1
        return await super().head(key)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> OpenObject | None:
        self.asked += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await super().get(key, start, end)
        finally:
            self.running -= 1

    async def list(self, prefix: str, *, shallow: bool = False) -> AsyncIterator[ObjectPage]:
        self.asked += 1
        async for page in super().list(prefix, shallow=shallow):
            yield page


async def ask(store: Store, query: str) -> Response:
    """Answer a request for the list."""
    path = f"/v2/{NAME}/referrers/{SUBJECT}"
    scope: Any = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [],
        "scheme": "https",
    }
    request = Request(scope, None)  # type: ignore[arg-type]
    request.path = {"name": str(NAME), "digest": str(SUBJECT)}
    context: Any = SimpleNamespace(registry=Registry(store))
    return await referrers(request, context)


def listed(answer: Response) -> list[str]:
    assert isinstance(answer.body, Bytes)
    return [one["digest"] for one in json.loads(answer.body.content)["manifests"]]


def following(answer: Response) -> str | None:
    """Return the query of the next page."""
    link = answer.headers.get("Link")
    return None if link is None else link[1:].partition(">")[0].partition("?")[2]


async def memory() -> MemoryStore:
    store = MemoryStore()
    index = store.pushed(NAME)
    for one in REFERRERS:
        await store.blobs.put(one, b"{}")
        await index.manifests.add(one)
        await index.referrers.add(SUBJECT, one)
        await index.referrers.note(SUBJECT, one, descriptor(one))
    return store


async def test_a_filter_that_matches_little_asks_a_bucket_for_a_part_at_a_time() -> None:
    """Pages may be empty; who follows them finds what there is. Some are asked about at once."""
    service = CountingService()
    store = ObjectStore(service, Keys(), BlobRules())
    pages, query = [], "artifactType=a%2Frare"
    while True:
        before = service.asked
        answer = await ask(store, query)
        assert service.asked - before < 3 * 1100
        assert answer.headers["OCI-Filters-Applied"] == "artifactType"
        pages.append(listed(answer))
        further = following(answer)
        if further is None:
            break
        query = further
        assert "artifactType=a%2Frare" in query
    assert pages == [[], [], [str(RARE)]]
    assert service.most > 8


@pytest.mark.parametrize("filtered", ["", "artifactType=a%2Fusual"])
async def test_pages_have_each_referrer_once(filtered: str) -> None:
    """They end after a thousand, and the last one has no link."""
    store, sizes, found = await memory(), [], []
    query: str | None = filtered
    while query is not None:
        answer = await ask(store, query)
        sizes.append(len(listed(answer)))
        found += listed(answer)
        query = following(answer)
    assert sizes == [1000, 1000, 999 if filtered else 1000]
    assert found == [str(one) for one in REFERRERS if not filtered or one != RARE]
