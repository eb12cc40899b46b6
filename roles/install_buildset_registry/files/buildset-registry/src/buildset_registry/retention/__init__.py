# SPDX-License-Identifier: Apache-2.0
"""Retention: which of the pushed images stay, by rules, by their last use, and by quotas.

``rules`` and ``timeline`` decide, pure; the others keep what has to be known in the store. The
collector (``gc``) removes.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from buildset_registry.background import stop, supervised
from buildset_registry.oci.names import RepositoryName
from buildset_registry.retention.clock import APART, Clock
from buildset_registry.retention.intake import Intake
from buildset_registry.retention.leases import LeasedImages, Leases
from buildset_registry.retention.quotas import Quota, QuotaGuard
from buildset_registry.retention.removals import Removals
from buildset_registry.retention.rules import RetentionRule
from buildset_registry.retention.timeline import Timeline, day
from buildset_registry.retention.uses import Uses
from buildset_registry.store.base import Store
from buildset_registry.store.documents import read_content

#: The topics of the documents, and of those by which replicas tell what they took in.
TOPIC = "retention"
INTAKE_TOPIC = "intake"
#: Seconds between two times at which replicas tell each other what they took in.
_ROUND = 10.0
#: The name of the document that tells which rules were seen last, and since when.
_NAME = "rules"
_SPARED = "; nothing is removed by rules this time"
#: What that document says where a process serves without rules.
_WITHOUT = json.dumps({"fingerprint": "", "since": 0.0}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """The rules, the quotas, and how patient they are, in seconds."""

    rules: Sequence[RetentionRule]
    quotas: Sequence[Quota]
    delay: float
    fingerprint: str
    """A text that is another one where anything of this is."""


@dataclass(frozen=True, slots=True)
class RetentionRun:
    """One application of the rules: the time it goes by, and why it removes nothing, if so."""

    policy: RetentionPolicy
    timeline: Timeline
    now: float
    held: Sequence[str]
    apart: str = ""
    """The one of these reasons that does not end by itself: the clock is not that of the store."""

    def rules(self, name: RepositoryName) -> list[RetentionRule]:
        """Return the rules about a repository."""
        return [rule for rule in self.policy.rules if rule.governs(name)]

    def age(self, stamp: float) -> float:
        """Return how long ago something was, in seconds in which the registry ran."""
        return self.timeline.age(self.now, stamp)


class Retention:
    """The retention of one store, for whoever serves it and whoever collects in it."""

    def __init__(
        self,
        policy: RetentionPolicy,
        store: Store,
        now: Callable[[], float] = time.time,
        apart: float = APART,
    ) -> None:
        self.policy = policy
        self._documents = store.documents(TOPIC)
        self.clock = Clock(self._documents, store, now, apart)
        self.removals = Removals(self._documents)
        intake = Intake(store.documents(INTAKE_TOPIC))
        self.quotas = QuotaGuard(self._documents, policy.quotas, intake)
        self.uses = Uses(store, self._sign)
        self._counting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to write down what is used, and what quotas count."""
        self.uses.start()
        if self.quotas.refuses:
            with suppress(OSError):
                await self.quotas.refresh()
            self._counting = supervised("counting for quotas", self._count)

    async def close(self) -> None:
        """Write the rest."""
        if self._counting is not None:
            await stop(self._counting)
            with suppress(OSError):
                await self.quotas.refresh()
        await self.uses.close()

    async def begin(self, *, dry_run: bool) -> RetentionRun:
        """Begin to apply the rules; nothing is written in a dry run."""
        if not dry_run:
            self.quotas.begin()
        await self.uses.flush()
        timeline = await (self.clock.look() if dry_run else self.clock.sign())
        now = self.clock.now()
        apart = await self.clock.difference()
        reasons = [
            apart,
            self._since_jump(timeline, now),
            await self._since_change(timeline, now, dry_run=dry_run),
        ]
        held = [one + _SPARED for one in reasons if one]
        return RetentionRun(self.policy, timeline, now, held, held[0] if apart else "")

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(_ROUND)
            await self.quotas.refresh()

    async def _sign(self) -> None:
        await self.clock.sign()
        await self.quotas.refresh()

    def _since_jump(self, timeline: Timeline, now: float) -> str:
        """Return why nothing is removed yet where the clock has jumped."""
        jumped = timeline.jumped
        if jumped is None or (timeline.age(now, jumped) >= self.policy.delay and jumped != now):
            return ""
        return (
            f"on {day(jumped)} the clock was found to have jumped, or the registry to have "
            "stopped for long"
        )

    async def _since_change(self, timeline: Timeline, now: float, *, dry_run: bool) -> str:
        """Return why nothing is removed yet where the rules are new, and remember them."""
        content = await read_content(self._documents, _NAME)
        since = None if content is None else self._known_since(content)
        if since is None:
            if not dry_run:
                tree = {"fingerprint": self.policy.fingerprint, "since": now}
                await self._documents.write(_NAME, json.dumps(tree).encode())
            return "the rules are new or were changed"
        if timeline.age(now, since) < self.policy.delay:
            return (
                f"the rules are those of {day(since)}, and removals wait for "
                f"{self.policy.delay:.0f} seconds (retention.delay)"
            )
        return ""

    def _known_since(self, content: bytes) -> float | None:
        """Return since when these rules are known; None where others were the last."""
        try:
            tree = json.loads(content)
            same = tree["fingerprint"] == self.policy.fingerprint
            return float(tree["since"]) if same else None
        except (ValueError, TypeError, KeyError):
            return None


async def serve_without(store: Store) -> None:
    """Note that a process serves without rules, where there were some: it notes no uses.

    Replicas that have rules take that for a change of them, and remove nothing for a while.
    """
    documents = store.documents(TOPIC)
    content = await read_content(documents, _NAME)
    if content not in (None, _WITHOUT):
        await documents.write(_NAME, _WITHOUT)


__all__ = [
    "TOPIC",
    "LeasedImages",
    "Leases",
    "Quota",
    "QuotaGuard",
    "Removals",
    "Retention",
    "RetentionPolicy",
    "RetentionRule",
    "RetentionRun",
    "Timeline",
    "Uses",
    "serve_without",
]
