# SPDX-License-Identifier: Apache-2.0
"""The whole store in a bucket, which any number of processes use at once."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from buildset_registry.config import Config
from buildset_registry.errors import ConfigError
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.store.base import Purpose
from buildset_registry.store.holders import Holders
from buildset_registry.store.objects import keys
from buildset_registry.store.objects.blobs import BlobRules, ObjectBlobs
from buildset_registry.store.objects.clock import ServiceClock
from buildset_registry.store.objects.dialect import (
    ABSENT,
    Body,
    Condition,
    ConditionFailed,
    Dialect,
    ObjectFailure,
)
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.lease import Lease
from buildset_registry.store.objects.links import ObjectContext, ObjectRepository
from buildset_registry.store.objects.lists import RecentLists
from buildset_registry.store.objects.parts import PartBudget
from buildset_registry.store.objects.promises import Promises
from buildset_registry.store.objects.redirects import locator
from buildset_registry.store.objects.small import SmallObjects
from buildset_registry.store.objects.uploads import ObjectUploads, UploadPlaces
from buildset_registry.store.objects.walk import Repositories
from buildset_registry.store.turns import Turns

#: Repositories whose keys are kept ready; past this many, the one used longest ago goes.
_KEPT = 1024
#: The least time for which promises are kept; longer where the grace period is.
_LEAST_KEPT = 24 * 3600


class ObjectStore:
    """Everything below one root of a bucket."""

    def __init__(self, dialect: Dialect, keys_: Keys, rules: BlobRules) -> None:
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
        conditions = able.creates and able.swaps
        self._lease = Lease(self._small, keys_.lease, conditions=conditions)
        self._names = Repositories(dialect, keys_.repositories)
        self._tags: RecentLists[Tag] = RecentLists()
        self._made: OrderedDict[tuple[RepositoryName, bool], ObjectRepository] = OrderedDict()
        self.blobs = ObjectBlobs(dialect, keys_, self._promises, rules)
        places = UploadPlaces(dialect, keys_, self._small, self.blobs, self._names, self._clock)
        self.uploads = ObjectUploads(places, PartBudget())
        self.space = ObjectSpace(dialect, keys_, self.blobs, self._clock)

    def pushed(self, name: RepositoryName) -> ObjectRepository:
        return self._repository(name, cached=False)

    def cached(self, name: RepositoryName) -> ObjectRepository:
        return self._repository(name, cached=True)

    async def repositories(self) -> Sequence[RepositoryName]:
        return await self._names.all()

    @asynccontextmanager
    async def collecting(self, *, wait: bool) -> AsyncIterator[bool]:
        async with self._lease.held(wait=wait) as mine:
            if mine:
                await self._clock.compare(self._dialect, self._keys.probe(secrets.token_hex(8)))
            yield mine

    async def aclose(self) -> None:
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
            )
            made = self._made[name, cached] = ObjectRepository(folder, context)
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return made


class ObjectSpace:
    """A service has as much room as it has; whether it answers is what can be told."""

    def __init__(
        self, dialect: Dialect, keys_: Keys, blobs: ObjectBlobs, clock: ServiceClock
    ) -> None:
        self._dialect = dialect
        self._keys = keys_
        self._blobs = blobs
        self._clock = clock

    async def problem(self) -> str | None:
        try:
            await self._dialect.head(self._keys.lease)
        except ObjectFailure as error:
            return error.strerror
        return None

    def free(self) -> tuple[int, int] | None:
        return None

    async def used(self) -> int:
        return await self._blobs.used()

    def clock_ahead(self) -> float:
        return self._clock.ahead


@dataclass(frozen=True, slots=True)
class Probed:
    """The abilities that a service was found to have."""

    conditions: bool
    """Whether an object is made, and replaced, by one of two only."""


async def open_objects(
    dialect: Dialect, root: str, config: Config, purpose: Purpose
) -> ObjectStore:
    """Open the store in a bucket, after it was found to keep what the design needs."""
    keys_ = Keys(root)
    try:
        locate = locator(config.redirect, dialect, keys_)
        await dialect.probe()
        if purpose is Purpose.SERVE:
            probed = await probe(dialect, keys_)
            if not probed.conditions:
                raise ConfigError(
                    "storage: this service does not keep the conditions If-None-Match and If-Match:"
                    " uploads of two replicas would spoil each other; use one that does"
                )
    except ObjectFailure as error:
        await dialect.aclose()
        raise ConfigError(f"storage: {error.strerror}") from None
    except BaseException:
        await dialect.aclose()
        raise
    kept = None if purpose is Purpose.READ else float(max(_LEAST_KEPT, 2 * config.gc.grace))
    return ObjectStore(dialect, keys_, BlobRules(locate, kept))


async def probe(dialect: Dialect, keys_: Keys) -> Probed:
    """Find out whether conditions hold, by an object that is removed again."""
    key = keys_.probe(secrets.token_hex(8))

    async def refused(condition: Condition) -> bool:
        try:
            await dialect.put(key, Body(5, (b"wrong",)), condition)
        except ConditionFailed:
            return True
        return False

    try:
        first = await dialect.put(key, Body(5, (b"first",)), ABSENT)
        conditions = await refused(ABSENT)
        second = await dialect.put(key, Body(6, (b"second",)), Condition(first))
        conditions = conditions and await refused(Condition(first)) and first != second
    finally:
        await dialect.delete(key)
    return Probed(conditions)
