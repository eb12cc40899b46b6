# SPDX-License-Identifier: Apache-2.0
"""The state of one collection, and the rules it follows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from buildset_registry.gc.reachability import Key
from buildset_registry.gc.report import CollectionReport, Removed
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.pacing import STEPS, paced
from buildset_registry.progress import Progress, ProgressCallback
from buildset_registry.retention import LeasedImages, Leases, Retention, RetentionRun
from buildset_registry.retention.rules import Judgement
from buildset_registry.store.base import Store

_Item = TypeVar("_Item")

#: Tells whether an upstream has a manifest of a repository, as far as it can be known.
AtUpstream = Callable[[RepositoryName, Digest], Awaitable[bool]]


async def no_upstream(_name: RepositoryName, _digest: Digest) -> bool:
    """Tell that there is none."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionRules:
    """The time that things live, in seconds, and the room that the cache may take."""

    grace: float
    """How long a blob stays that nothing refers to (yet)."""

    untagged: float | None
    """How long a manifest stays without a tag; None: for ever."""

    uploads: float
    """How long an upload may rest."""

    cache_size: int | None
    """Bytes that upstream's content may take; None: any number."""

    pulling: float = 600
    """Content that was pulled so recently is not evicted: the pull may not be over."""

    settling: float = 2
    """The clock of files may be late, and what is stored may take so long to be linked."""

    retention: Retention | None = None
    """What decides which of the pushed images stay; None: all of them."""

    leases: Leases | None = None
    """What knows the images that tokens were given for; None: none are looked for."""


@dataclass(slots=True)
class Retained:
    """The application of the rules of retention to one repository after the other."""

    retention: Retention
    run: RetentionRun
    crowded: dict[str, dict[Tag, Judgement]] = field(default_factory=dict)
    """The tags that have to make room for a quota, by repository."""

    counted: dict[str, set[Key]] = field(default_factory=dict)
    """The blobs that count for each quota, by its prefix."""

    sizes: Counter[str] = field(default_factory=Counter)
    """The bytes of those that stay, by the prefix of the quota."""

    matched: set[str] = field(default_factory=set)
    """The rules that matched something."""

    judged: Counter[bool] = field(default_factory=Counter)
    """How many images stay, and how many do not."""

    def count(self, name: RepositoryName, keys: Iterable[Key]) -> None:
        """Let blobs that a repository needs count for its quotas."""
        found = set(keys)
        for quota in self.run.policy.quotas:
            if quota.governs(name):
                self.counted.setdefault(quota.prefix, set()).update(found)

    def measure(self, one: Key, size: int) -> None:
        """Add a blob that stays to the quotas that it counts for."""
        for prefix, keys in self.counted.items():
            if one in keys:
                self.sizes[prefix] += size


@dataclass(slots=True)
class Collection:
    """One collection: what it works on, and what it has found so far."""

    store: Store
    rules: CollectionRules
    report: CollectionReport
    on_progress: ProgressCallback
    at_upstream: AtUpstream = no_upstream
    began: float = field(init=False)
    """By the clock that times of content are of."""

    marked: set[Key] = field(default_factory=set)
    """The blobs that a link, or the manifest of a link that is kept, refers to."""

    swept: set[Key] = field(default_factory=set)
    """The blobs that were removed."""

    retained: Retained | None = None
    """The application of the rules of retention, where there are some."""

    leased: LeasedImages = field(default_factory=LeasedImages)
    """The images that were leased when it began."""

    asked: int = 0
    """How often an upstream was asked."""

    silent: set[str] = field(default_factory=set)
    """The upstreams that could not be asked."""

    def __post_init__(self) -> None:
        self.began = time.time() - self.store.space.clock_ahead()

    def age(self, stamp: float) -> float:
        """Return how long ago something was, in seconds in which the registry ran."""
        if self.retained is not None:
            return self.retained.run.age(stamp)
        return max(0.0, time.time() - stamp)

    def remove(self, kind: str, name: str, reason: str) -> None:
        """Put something that was removed into the report."""
        self.report.removed.append(Removed(kind, name, reason))

    async def paced(self, stage: str, items: Sequence[_Item]) -> AsyncIterator[_Item]:
        """Yield items, let other requests have their turn, and tell how far a stage has come."""
        number = 0
        async for item in paced(items):
            if stage and number % STEPS == 0:
                self.on_progress(Progress(stage, number, len(items)))
            yield item
            number += 1
        if stage:
            self.on_progress(Progress(stage, len(items), len(items)))
