# SPDX-License-Identifier: Apache-2.0
"""The state of one collection, and the rules it follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from buildset_registry.gc.reachability import Key
from buildset_registry.gc.report import CollectionReport, Progress, Removed, Watcher
from buildset_registry.store.base import Store

#: After so many steps other requests have their turn.
_STEPS = 20
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionRules:
    """How long things live, in seconds."""

    grace: float
    """How long a blob stays that nothing refers to (yet)."""

    untagged: float | None
    """How long a manifest stays without a tag; None: for ever."""

    uploads: float
    """How long an upload may rest."""

    cache_size: int | None
    """Bytes that upstream's content may take; None: any number."""

    pulling: float = 600
    """What was pulled so recently is not evicted: the pull may not be over."""

    settling: float = 2
    """The clock of files may be late, and what is stored may take so long to be linked."""


@dataclass(slots=True)
class Run:
    """One collection."""

    store: Store
    rules: CollectionRules
    report: CollectionReport
    watch: Watcher
    began: float = field(default_factory=time.time)
    marked: set[Key] = field(default_factory=set)
    """What a link or a manifest of a kept link refers to."""

    swept: set[Key] = field(default_factory=set)

    def remove(self, kind: str, name: str, reason: str) -> None:
        self.report.removed.append(Removed(kind, name, reason))

    async def paced(self, stage: str, items: Sequence[_Item]) -> AsyncIterator[_Item]:
        """Yield items, let other requests have their turn, and tell how far a stage has come."""
        for number, item in enumerate(items):
            if number % _STEPS == 0:
                await asyncio.sleep(0)
                if stage:
                    self.watch(Progress(stage, number, len(items)))
            yield item
        if stage:
            self.watch(Progress(stage, len(items), len(items)))
