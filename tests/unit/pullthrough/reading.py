# SPDX-License-Identifier: Apache-2.0
"""The registry that the tests of pull-through ask, what they push to it, and how they read."""

from dataclasses import dataclass

from buildset_registry.oci.names import RepositoryName
from buildset_registry.pullthrough import Freshness, PullThrough
from buildset_registry.registry import Registry
from buildset_registry.sources import ArrivingBlob
from buildset_registry.store.base import BlobFile, Store, StoredBlob
from buildset_registry.upstream.client import UpstreamClient

from tests.unit.upstream.lab import BLOB_DIGEST

OTHER = RepositoryName("quay.io/org/other")
OTHER_PATH = f"/v2/org/other/blobs/{BLOB_DIGEST}"
PUSHED = b'{"schemaVersion":2,"manifests":[],"annotations":{"by":"job"}}'


@dataclass(frozen=True)
class May:
    """What somebody may read; ``public`` is what everybody may, and None in it is all."""

    read: frozenset[RepositoryName | None] = frozenset()
    public: frozenset[RepositoryName | None] = frozenset()

    @property
    def everything(self) -> bool:
        return None in self.read

    def allow(self, name: RepositoryName) -> bool:
        return self.everything or name in self.read

    def as_open(self, source: RepositoryName | None, target: RepositoryName) -> bool:
        return None in self.public or source in self.public


#: The rights of anybody where everything is public.
ALL = May(frozenset({None}), frozenset({None}))


class PullingRegistry(Registry):
    """A registry that pulls through, with its counters and its end; the rest is PullThrough's."""

    def __init__(
        self,
        store: Store,
        client: UpstreamClient,
        freshness: Freshness | None = None,
    ) -> None:
        self._pull_through = PullThrough(store, client, freshness)
        super().__init__(store, self._pull_through)
        self.counters = client.counters

    async def close(self) -> None:
        """Stop what is under way."""
        await self._pull_through.close()


async def read(found: StoredBlob | ArrivingBlob, start: int = 0, end: int | None = None) -> bytes:
    """Return a blob's bytes; of a file all of them."""
    if isinstance(found, BlobFile):
        return found.path.read_bytes()
    pieces = found.chunks(start, found.size if end is None else end)
    return b"".join([piece async for piece in pieces])


def arriving(found: StoredBlob | ArrivingBlob) -> ArrivingBlob:
    """Return a blob that is on its way; one that is stored already fails the test."""
    assert isinstance(found, ArrivingBlob)
    return found
