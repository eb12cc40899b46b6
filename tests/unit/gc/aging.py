# SPDX-License-Identifier: Apache-2.0
"""Retention at a time that a test chooses, over a store whose own clock nobody can turn."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from buildset_registry.gc import CollectionReport, collect
from buildset_registry.oci.names import RepositoryName
from buildset_registry.retention import (
    TOPIC,
    Leases,
    Quota,
    Retention,
    RetentionPolicy,
    RetentionRule,
    Timeline,
)
from buildset_registry.store.base import Store

from tests.unit.gc.images import NAME, RULES, Described, silent

DAY = 86400.0


@dataclass
class Aging:
    """A store, its rules, and the time: by default half a year after whatever was pushed."""

    store: Store
    rules: Sequence[RetentionRule] = ()
    quotas: Sequence[Quota] = ()
    delay: float = 0.0
    fingerprint: str = "as ever"
    now: float = 0.0

    def __post_init__(self) -> None:
        self.now = self.now or time.time() + 180 * DAY
        policy = RetentionPolicy(
            rules=self.rules, quotas=self.quotas, delay=self.delay, fingerprint=self.fingerprint
        )
        self.retention = Retention(policy, self.store, lambda: self.now, math.inf)
        self.leases = Leases(self.store, lambda: self.now)

    async def has_always_run(self) -> Aging:
        """Let the registry have run up to now, with these rules."""
        timeline = Timeline(0.0, self.now)
        documents = self.store.documents(TOPIC)
        await documents.write("clock", timeline.to_json())
        rules = {"fingerprint": self.fingerprint, "since": 0.0}
        await documents.write("rules", json.dumps(rules).encode())
        return self

    async def run(self, dry_run: bool = False, **rules: Any) -> CollectionReport:
        """Collect now."""
        given = {"retention": self.retention, "leases": self.leases, **rules}
        collecting = replace(RULES, **given)
        return await collect(self.store, collecting, silent, dry_run=dry_run)

    def use(self, *images: Described, name: RepositoryName = NAME) -> None:
        """Pull images by their digest, by the clock of the store."""
        for image in images:
            self.retention.uses.add(name, image["digest"])


def reasons(report: CollectionReport) -> dict[str, str]:
    """Return what a dry run says of each tag, without its repository."""
    return {one.name.partition(":")[2]: f"{one.rule}: {one.reason}" for one in report.images}


def tags_removed(report: CollectionReport) -> list[str]:
    """Return the tags that a collection removed, without their digests and repositories."""
    names = [one.name.partition("@")[0] for one in report.removed if one.kind == "tag"]
    return sorted(name.partition(":")[2] for name in names)
