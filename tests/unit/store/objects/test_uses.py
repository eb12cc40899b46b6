# SPDX-License-Identifier: Apache-2.0
"""What was pulled through and is used: that is noted where it can be."""

from __future__ import annotations

from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.store.base import RepositoryIndex
from buildset_registry.store.objects.blobs import BlobRules
from buildset_registry.store.objects.dialect import Body, Condition, ObjectFailure
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.store import ObjectStore

from tests.unit.store.objects.imagined import ImaginedService

NAME, ONE = RepositoryName("quay.io/org/app"), Digest.of(b"one")


class Closing(ImaginedService):
    """A service that takes nothing at times."""

    is_closed = False

    async def put(self, key: str, content: Body, condition: Condition | None = None) -> str:
        if self.is_closed:
            raise ObjectFailure("the object store answers 403")
        return await super().put(key, content, condition)


def cached_of(service: ImaginedService) -> RepositoryIndex:
    """Return what is cached, as a process has it that has just begun."""
    return ObjectStore(service, Keys(), BlobRules()).cached(NAME)


async def test_a_use_that_cannot_be_noted_keeps_nobody_from_what_is_here() -> None:
    """The last one is of long ago; the bucket has come to be full, or its key may only read."""
    service = Closing(1)
    await cached_of(service).layers.add(ONE)
    before = (await cached_of(service).layers.all())[0].used
    assert await cached_of(service).layers.has(ONE)
    assert (await cached_of(service).layers.all())[0].used > before
    service.is_closed = True
    assert await cached_of(service).layers.has(ONE)
