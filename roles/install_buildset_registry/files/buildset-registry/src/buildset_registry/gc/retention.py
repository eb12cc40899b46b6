# SPDX-License-Identifier: Apache-2.0
"""Retention as part of a collection: the rules are applied to one repository after the other.

What goes is written down before it goes. A tag goes first, then what it led to, an index before
what it lists; blobs go with the rest of the collection. Each removal asks once more whether
somebody pushed or pulled since the decision, in one step with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from buildset_registry.gc.images import ImageGraph, RetentionPlan, plan_retention
from buildset_registry.gc.reachability import ManifestNode
from buildset_registry.gc.report import JudgedImage
from buildset_registry.gc.state import Collection, Retained
from buildset_registry.manifest_links import unlink_manifest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.retention.removals import RepositoryRemovals, noted
from buildset_registry.retention.timeline import day
from buildset_registry.store.base import RepositoryIndex, TagTarget

#: Tags that are asked for at once, and those that are removed by one note.
_TOGETHER = 16
_NOTED = 1000
#: Times of links differ by more than this, or not at all.
_INSTANT = 1e-6


async def begin_retention(collection: Collection) -> None:
    """Find out what time it is, and whether anything may be removed."""
    retention = collection.rules.retention
    if retention is not None:
        run = await retention.begin(dry_run=collection.report.dry_run)
        collection.retained = Retained(retention, run)
        collection.report.notes += run.held


async def end_retention(collection: Collection) -> None:
    """Tell of rules that match nothing, or leave nothing, and keep what quotas counted."""
    retained = collection.retained
    if retained is None:
        return
    for rule in retained.run.policy.rules:
        if rule.name not in retained.matched:
            collection.report.notes.append(f"{rule.name} matches no tag of any repository")
    going = retained.judged[False]
    if going and not retained.judged[True]:
        collection.report.notes.append(f"the rules keep none of {going} images")
    _tell_of_quotas(collection, retained)
    if not collection.report.dry_run and not collection.report.problems and retained.counted:
        await retained.retention.quotas.write(retained.sizes)


def _tell_of_quotas(collection: Collection, retained: Retained) -> None:
    for quota in retained.run.policy.quotas:
        size = retained.sizes[quota.prefix]
        if quota.soft is not None and size > quota.soft:
            collection.report.notes.append(
                f"the images of {quota.prefix} take {size} bytes, more than the {quota.soft} of "
                "their quota: all that is left is kept by a rule, in use, or has no tag"
            )


async def retain(
    collection: Collection, name: RepositoryName, nodes: Mapping[Digest, ManifestNode]
) -> set[Digest]:
    """Apply the rules to a repository; return the manifests that are gone."""
    retained = collection.retained
    if retained is None:
        return set()
    run, crowded = retained.run, retained.crowded.get(name, {})
    rules = run.rules(name)
    if not rules and not crowded:
        return set()
    removals = retained.retention.removals
    known = await removals.of(name)
    graph = ImageGraph(nodes, await tag_targets(collection, name))
    plan = await asyncio.to_thread(
        plan_retention, graph, run, rules, crowded=crowded, unfinished=known.unfinished
    )
    retained.matched |= {one.name for one in rules for tag in graph.tags if one.matches(tag)}
    _judge(collection, name, graph, plan)
    if collection.report.dry_run:
        return _would_remove(collection, name, graph, plan)
    settled = known.unfinished == plan.waiting
    if run.held or (settled and not plan.manifests and not _doomed(plan)):
        return set()
    return await _Removal(collection, retained, name, graph, plan).run(known)


async def tag_targets(collection: Collection, name: RepositoryName) -> dict[Tag, TagTarget]:
    """Return what the tags of a repository point to."""
    tags, found = collection.store.pushed(name).tags, {}
    every = await tags.all()
    for start in range(0, len(every), _TOGETHER):
        some = every[start : start + _TOGETHER]
        targets = await asyncio.gather(*map(tags.get, some))
        found.update({tag: target for tag, target in zip(some, targets, strict=True) if target})
        await asyncio.sleep(0)
    return found


def _judge(
    collection: Collection, name: RepositoryName, graph: ImageGraph, plan: RetentionPlan
) -> None:
    """Put what was decided into the report, where nothing is removed, and count it."""
    retained = collection.retained
    held = collection.report.dry_run or (retained is not None and bool(retained.run.held))
    for tag, verdict in plan.verdicts.items():
        if retained is not None:
            retained.judged[verdict.kept] += 1
        if held:
            digest = str(graph.tags[tag].digest)
            collection.report.images.append(
                JudgedImage(f"{name}:{tag}", digest, verdict.kept, verdict.rule, verdict.reason)
            )


def _would_remove(
    collection: Collection, name: RepositoryName, graph: ImageGraph, plan: RetentionPlan
) -> set[Digest]:
    """Report what a run would remove, unless it would be held; return the manifests."""
    if collection.retained is not None and collection.retained.run.held:
        return set()
    for tag in _doomed(plan):
        _report_tag(collection, name, graph, plan, tag)
    for digest, rule in plan.manifests.items():
        collection.remove("manifest", f"{name}@{digest}", _with_tag(rule))
    return set(plan.manifests)


def _doomed(plan: RetentionPlan) -> list[Tag]:
    return [tag for tag, verdict in plan.verdicts.items() if not verdict.kept]


def _report_tag(
    collection: Collection, name: RepositoryName, graph: ImageGraph, plan: RetentionPlan, tag: Tag
) -> None:
    verdict = plan.verdicts[tag]
    reason = f"{verdict.rule}: {verdict.reason}"
    collection.remove("tag", f"{name}:{tag}@{graph.tags[tag].digest}", reason)


def _with_tag(rule: str) -> str:
    return f"its last tag went by {rule}" if rule else "its last tag went in an earlier run"


class _Removal:
    """The removal of what a plan says, from one repository."""

    def __init__(
        self,
        collection: Collection,
        retained: Retained,
        name: RepositoryName,
        graph: ImageGraph,
        plan: RetentionPlan,
    ) -> None:
        self._collection = collection
        self._retained = retained
        self._name = name
        self._graph = graph
        self._plan = plan
        self._index: RepositoryIndex = collection.store.pushed(name)
        self._today = day(retained.run.now)

    async def run(self, known: RepositoryRemovals) -> set[Digest]:
        """Remove tags, then manifests; return those that are gone."""
        removals = self._retained.retention.removals
        known.unfinished = self._plan.waiting | self._plan.manifests.keys()
        for digest, rule in self._plan.manifests.items():
            if rule:
                known.gone.update(noted([digest], self._today, rule))
        doomed = _doomed(self._plan)
        for start in range(0, max(1, len(doomed)), _NOTED):
            some = doomed[start : start + _NOTED]
            for tag in some:
                known.gone.pop(tag, None)  # what goes last stands last
                known.gone.update(noted([tag], self._today, self._plan.verdicts[tag].rule))
            await removals.write(self._name, known)
            async for tag in self._collection.paced("", some):
                if not await self._remove_tag(tag):
                    known.gone.pop(tag, None)
        gone = await self._remove_manifests()
        known.unfinished -= gone
        for digest in known.unfinished:
            known.gone.pop(str(digest), None)
        await removals.write(self._name, known)
        return gone

    async def _remove_tag(self, tag: Tag) -> bool:
        """Remove a tag, unless it was set again, or something of its image is being pulled."""
        target = self._graph.tags[tag]
        pending = self._retained.retention.uses.pending(self._name)
        if pending and not pending.isdisjoint(self._graph.whole([target.digest])):
            return False
        async with self._collection.store.turns.tag(self._name, tag):
            if not await self._index.tags.expire(tag, target):
                return False
        _report_tag(self._collection, self._name, self._graph, self._plan, tag)
        return True

    async def _remove_manifests(self) -> set[Digest]:
        await self._retained.retention.uses.flush()
        gone = set()
        still = {one.digest for one in (await tag_targets(self._collection, self._name)).values()}
        held = self._graph.whole(still)
        async for digest in self._collection.paced("", self._ordered()):
            if digest in held:
                continue
            node = self._graph.nodes[digest]
            async with self._collection.store.turns.manifest(self._name, digest):
                removed = await unlink_manifest(
                    self._index, digest, node.subject, node.used + _INSTANT
                )
            if removed:
                reason = _with_tag(self._plan.manifests[digest])
                self._collection.remove("manifest", f"{self._name}@{digest}", reason)
                gone.add(digest)
        return gone

    def _ordered(self) -> Sequence[Digest]:
        """Return the manifests that go, an index before what it lists."""
        return sorted(self._plan.manifests, key=lambda one: not self._graph.nodes[one].children)
