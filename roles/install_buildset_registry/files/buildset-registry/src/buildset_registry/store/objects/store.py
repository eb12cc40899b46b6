# SPDX-License-Identifier: Apache-2.0
"""The whole store in a bucket, which any number of processes use at once."""

from __future__ import annotations

import errno
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from buildset_registry.config import Config
from buildset_registry.errors import ConfigError
from buildset_registry.latest import Latest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.parallel import together
from buildset_registry.store.documents import StoredDocument
from buildset_registry.store.holders import Holders
from buildset_registry.store.objects import keys
from buildset_registry.store.objects.blobs import BlobRules, ObjectBlobs
from buildset_registry.store.objects.clock import ServiceClock
from buildset_registry.store.objects.dialect import Body, Dialect, ObjectFailure
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.lease import Lease
from buildset_registry.store.objects.links import ObjectContext, ObjectRepository
from buildset_registry.store.objects.lists import RecentLists
from buildset_registry.store.objects.parts import PartBudget, TemporaryDisk
from buildset_registry.store.objects.probe import RIGHTS, probe
from buildset_registry.store.objects.promises import Promises
from buildset_registry.store.objects.redirects import locator
from buildset_registry.store.objects.small import SmallObjects
from buildset_registry.store.objects.staging import Staging
from buildset_registry.store.objects.uploads import ObjectUploads, UploadPlaces
from buildset_registry.store.objects.walk import Repositories
from buildset_registry.store.purpose import Purpose
from buildset_registry.store.turns import Turns

#: Repositories whose keys are kept ready; past this many, the one made longest ago goes.
_KEPT = 1024
#: The least time for which promises are kept; longer where the grace period is.
_LEAST_KEPT = 24 * 3600
#: Seconds for which a list that was had tells that there is a bucket: a list costs money.
_LISTED = 10.0
#: Seconds after which a notice that nobody renewed is removed by the next process that starts.
_FORGOTTEN = 24 * 3600
#: The name of the object that whoever works on the documents of a topic holds.
_LEASE = "lease"


class ObjectStore:
    """Everything below one root of a bucket; ``disk`` is of temporary files."""

    def __init__(
        self, dialect: Dialect, keys_: Keys, rules: BlobRules, disk: TemporaryDisk | None = None
    ) -> None:
        self._dialect = dialect
        self._keys = keys_
        self.turns = Turns()
        self.holders = Holders()
        self._small = SmallObjects(dialect)
        able = dialect.abilities
        self._clock = ServiceClock()
        self._promises = Promises(
            dialect, keys_, conditions=able.creates, listed=able.lists, clock=self._clock
        )
        self._conditions = able.creates and able.swaps
        self._lease = Lease(self._small, keys_.lease, conditions=self._conditions)
        self._names = Repositories(dialect, keys_.repositories)
        self._tags: RecentLists[Tag] = RecentLists()
        self._made: Latest[tuple[RepositoryName, bool], ObjectRepository] = Latest(_KEPT)
        self.staging = Staging(dialect, keys_, self._small, self._clock)
        self.blobs = ObjectBlobs(dialect, keys_, self._promises, self.staging, rules)
        places = UploadPlaces(
            dialect, keys_, self._small, self.blobs, self.staging, self._names, self._clock
        )
        self.uploads = ObjectUploads(places, PartBudget(able.memory, disk))
        replicas = ReplicaNotices(self._small, keys_.replicas)
        self.space = ObjectSpace(dialect, keys_, self.blobs, replicas, self._clock)
        self.ledger = LedgerFolder(dialect, keys_.ledger)

    def documents(self, topic: str, *, secret: bool = False) -> ObjectDocuments:
        prefix = self._keys.documents(topic)
        key = f"{prefix}{_LEASE}"
        lease = Lease(self._small, key, conditions=self._conditions, work=topic)
        return ObjectDocuments(self._small, prefix, lease)

    def pushed(self, name: RepositoryName) -> ObjectRepository:
        return self._repository(name, cached=False)

    def cached(self, name: RepositoryName) -> ObjectRepository:
        return self._repository(name, cached=True)

    async def repositories(self) -> Sequence[RepositoryName]:
        return await self._names.all()

    async def misnamed(self) -> Sequence[RepositoryName]:
        return await self._names.misnamed()

    @asynccontextmanager
    async def collecting(self, *, wait: bool) -> AsyncIterator[bool]:
        async with self._lease.held(wait=wait) as mine:
            if mine:
                await self._clock.compare(self._dialect, self._keys.probe(secrets.token_hex(8)))
            yield mine

    async def aclose(self) -> None:
        await self.staging.aclose()
        await self._dialect.aclose()

    def _repository(self, name: RepositoryName, *, cached: bool) -> ObjectRepository:
        made = self._made.get((name, cached))
        if made is None:
            folder = self._keys.repository(name) + (keys.UPSTREAM if cached else "")
            context = ObjectContext(
                self._small,
                self._promises,
                self.blobs,
                self._tags,
                self._names.changed,
                partial(self.holders.add, name),
                cached,
                self._dialect.abilities.lists,
            )
            made = self._made[name, cached] = ObjectRepository(folder, context)
        return made


class ObjectDocuments:
    """An object for each, below one prefix, asked for each time: any replica may write it."""

    def __init__(self, small: SmallObjects, prefix: str, lease: Lease) -> None:
        self._small = small
        self._prefix = prefix
        self._lease = lease

    async def read(self, name: str) -> StoredDocument | None:
        found = await self._small.read(f"{self._prefix}{name}")
        return None if found is None else StoredDocument(found.content, found.changed)

    async def write(self, name: str, content: bytes) -> None:
        await self._small.write(f"{self._prefix}{name}", content)

    async def remove(self, name: str) -> None:
        await self._small.remove(f"{self._prefix}{name}")

    async def names(self) -> list[str]:
        pages = self._small.objects.list(self._prefix)
        found = [one.key[len(self._prefix) :] async for page in pages for one in page.objects]
        return [name for name in found if name != _LEASE]

    def turn(self) -> AbstractAsyncContextManager[bool]:
        return self._lease.held(wait=False)


class ReplicaNotices:
    """The notices of the replicas: a small object of each, which it writes again and again.

    They need no conditions, and a list that is late does no harm.
    """

    def __init__(self, small: SmallObjects, prefix: str) -> None:
        self._small = small
        self._prefix = prefix
        self._key = f"{prefix}{secrets.token_hex(8)}"
        self._told = False

    async def tell(self, notice: bytes) -> None:
        if not self._told:
            await self._forget()
        await self._small.write(self._key, notice)
        self._told = True

    async def told(self) -> Sequence[bytes]:
        found = await together([key for key, _changed in await self._listed()], self._small.read)
        return [one.content for one in found if one is not None]

    async def leave(self) -> None:
        if self._told:
            await self._small.remove(self._key)

    async def _forget(self) -> None:
        """Remove the notices of processes that ended long ago without a word."""
        before = time.time() - _FORGOTTEN
        old = [key for key, changed in await self._listed() if changed < before]
        await together(old, self._small.remove)

    async def _listed(self) -> list[tuple[str, float]]:
        pages = self._small.objects.list(self._prefix)
        return [(one.key, one.changed) async for page in pages for one in page.objects]


class ObjectSpace:
    """A service has as much room as it has; whether it answers is what can be told."""

    def __init__(
        self,
        dialect: Dialect,
        keys_: Keys,
        blobs: ObjectBlobs,
        replicas: ReplicaNotices,
        clock: ServiceClock,
    ) -> None:
        self._dialect = dialect
        self._keys = keys_
        self._blobs = blobs
        self._clock = clock
        self._listed = -_LISTED
        self.replicas = replicas

    async def problem(self) -> str | None:
        """Ask for an object; a bucket that is gone has none, as one that is empty, but no list."""
        try:
            found = await self._dialect.head(self._keys.lease)
            if found is None and time.monotonic() - self._listed >= _LISTED:
                async for _page in self._dialect.list(self._keys.lease):
                    pass
                self._listed = time.monotonic()
        except ObjectFailure as error:
            return error.strerror
        return None

    def free(self) -> tuple[int, int] | None:
        return None

    async def used(self) -> int:
        return await self._blobs.used()

    def clock_ahead(self) -> float:
        return self._clock.ahead


class LedgerFolder:
    """The objects of the ledger, by the ends of their keys."""

    def __init__(self, dialect: Dialect, prefix: str) -> None:
        self._dialect = dialect
        self._prefix = prefix

    async def list(self) -> AsyncIterator[Sequence[tuple[str, int]]]:
        async for page in self._dialect.list(self._prefix):
            yield [(one.key[len(self._prefix) :], one.size) for one in page.objects]

    async def read(self, name: str) -> bytes | None:
        opened = await self._dialect.get(self._prefix + name)
        if opened is None:
            return None
        return b"".join([piece async for piece in opened.chunks])

    async def write(self, name: str, content: bytes) -> None:
        await self._dialect.put(self._prefix + name, Body(len(content), (content,)))

    async def remove(self, name: str) -> None:
        await self._dialect.delete(self._prefix + name)


async def open_objects(
    dialect: Dialect, root: str, config: Config, purpose: Purpose
) -> ObjectStore:
    """Open the store in a bucket, after it was found to keep what the design needs."""
    keys_ = Keys(root)
    try:
        locate = locator(config.redirect, dialect, keys_)
        await dialect.probe()
        if purpose is Purpose.SERVE:
            await probe(dialect, keys_.probe(secrets.token_hex(8)))
    except ObjectFailure as error:
        await dialect.aclose()
        cure = f"; {RIGHTS}" if error.errno == errno.EACCES else ""
        raise ConfigError(f"storage: {error.strerror}{cure}") from None
    except BaseException:
        await dialect.aclose()
        raise
    kept = None if purpose is Purpose.READ else float(max(_LEAST_KEPT, 2 * config.gc.grace))
    disk = _temporary_disk(config.limits.free_bytes)
    store = ObjectStore(dialect, keys_, BlobRules(locate, kept), disk)
    if purpose is Purpose.SERVE and not config.read_only:
        store.staging.start()
    return store


def _temporary_disk(floor: int | None) -> TemporaryDisk | None:
    """Return the disk of temporary files; None where there is no folder for them."""
    try:
        return TemporaryDisk(floor)
    except OSError:
        return None  # who needs a file there is told so then
