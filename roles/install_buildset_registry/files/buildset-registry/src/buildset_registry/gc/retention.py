# SPDX-License-Identifier: Apache-2.0
"""Retention as part of a collection: the rules are applied to one repository after the other.

What goes is written down before it goes. A tag goes first, then what it led to, an index before
what it lists; blobs go with the rest of the collection. Each removal asks once more whether
somebody pushed or pulled since the decision, in one step with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial

from buildset_registry.gc.images import ImageGraph, RetentionPlan, plan_retention
from buildset_registry.gc.leases import leased_now
from buildset_registry.gc.reachability import ManifestNode
from buildset_registry.gc.report import JudgedImage
from buildset_registry.gc.state import Collection, Retained
from buildset_registry.gc.unlinking import in_batches, remove_outermost_first, unlink_unused
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.pacing import paced
from buildset_registry.parallel import to_its_end, together
from buildset_registry.retention import LeasedImages
from buildset_registry.retention.removals import RepositoryRemovals, noted
from buildset_registry.retention.timeline import day
from buildset_registry.store.base import RepositoryIndex, TagTarget

#: Tags that are asked for at once, and those that are removed by one document.
_TOGETHER = 16
_NOTED = 1000
#: The part of a hard quota from which on somebody should do something about it.
_NEARLY = 0.9


async def begin_retention(collection: Collection) -> None:
    """Find out what time it is, and whether anything may be removed.

    A full disk has the rest of a collection as its remedy, which does not need to write.
    """
    retention = collection.rules.retention
    if retention is None:
        return
    try:
        run = await retention.begin(dry_run=collection.report.dry_run)
    except OSError as error:
        collection.report.break_off(f"the rules are left out this time: {error.strerror}")
        return
    collection.retained = Retained(retention, run)
    collection.report.notes += run.held
    collection.report.attention += [run.apart] if run.apart else []


async def end_retention(collection: Collection) -> None:
    """Tell of rules that match nothing, or leave nothing, and keep what quotas counted."""
    retained = collection.retained
    if retained is None:
        return
    run = retained.run
    for rule in run.policy.rules:
        if rule.name not in retained.matched:
            collection.report.notes.append(f"{rule.name} matches no tag of any repository")
    going, staying = retained.judged[False], retained.judged[True]
    if going and run.held:
        collection.report.notes.append(
            f"the rules would remove {going} of the {going + staying} images that they match; "
            "gc --dry-run says which"
        )
    if going and not staying:
        collection.report.notes.append(f"the rules keep none of {going} images")
    _tell_of_quotas(collection, retained)
    if collection.report.dry_run or collection.report.problems or not run.policy.quotas:
        return
    try:
        await retained.retention.quotas.write(retained.sizes)
    except OSError as error:
        collection.report.break_off(f"what quotas counted is not kept: {error.strerror}")


def _tell_of_quotas(collection: Collection, retained: Retained) -> None:
    told = []
    for quota in retained.run.policy.quotas:
        size = retained.sizes[quota.prefix]
        taken = f"the images of {quota.prefix} take {size} bytes"
        if quota.hard is not None and size >= quota.hard * _NEARLY:
            told.append(
                f"{taken}; from {quota.hard} on pushes are refused: delete some, or raise the quota"
            )
        elif quota.soft is not None and size > quota.soft:
            told.append(
                f"{taken}, more than the {quota.soft} of "
                "their quota: all that is left is kept by a rule, in use, or has no tag"
            )
    collection.report.notes += told
    collection.report.attention += told


async def retain(
    collection: Collection, name: RepositoryName, nodes: Mapping[Digest, ManifestNode]
) -> set[Digest]:
    """Apply the rules to a repository; return the manifests that are gone."""
    retained = collection.retained
    if retained is None:
        return set()
    run, crowded = retained.run, retained.crowded.get(name, {})
    rules = run.rules(name)
    if not rules and not crowded and not collection.report.dry_run:
        return set()
    removals = retained.retention.removals
    known = await removals.of(name)
    graph = await image_graph(collection, name, nodes)
    plan = await asyncio.to_thread(
        plan_retention, graph, run, rules, crowded=crowded, unfinished=known.unfinished
    )
    retained.matched |= plan.matched
    await _judge(collection, retained, name, graph, plan)
    removal = _Removal(collection, retained, name, graph, plan)
    if collection.report.dry_run:
        return await removal.tell()
    settled = known.unfinished == plan.waiting
    if run.held or (settled and not plan.manifests and not plan.doomed):
        return set()
    try:
        return await removal.run(known)
    except OSError as error:
        collection.report.break_off(f"removals in {name} broke off: {error.strerror}")
        return removal.gone


async def image_graph(
    collection: Collection, name: RepositoryName, nodes: Mapping[Digest, ManifestNode]
) -> ImageGraph:
    """Return the manifests of a repository with the tags that lead to them, and what is leased."""
    tags = await _tag_targets(collection, name)
    leased = await asyncio.to_thread(collection.leased.of, name, nodes, tags)
    return await asyncio.to_thread(ImageGraph, nodes, tags, leased)


async def _tag_targets(collection: Collection, name: RepositoryName) -> dict[Tag, TagTarget]:
    """Return what the tags of a repository point to."""
    tags, found = collection.store.pushed(name).tags, {}
    every = await tags.all()
    for start in range(0, len(every), _TOGETHER):
        some = every[start : start + _TOGETHER]
        targets = await together(some, tags.get)
        found.update({tag: target for tag, target in zip(some, targets, strict=True) if target})
        await asyncio.sleep(0)
    return found


async def _judge(
    collection: Collection,
    retained: Retained,
    name: RepositoryName,
    graph: ImageGraph,
    plan: RetentionPlan,
) -> None:
    """Count what was decided; a dry run reports all of it, a run that is held what would go."""
    dry_run, held = collection.report.dry_run, bool(retained.run.held)
    async for tag, verdict in paced(plan.verdicts.items()):
        if verdict.rule:
            retained.judged[verdict.kept] += 1
        if dry_run or (held and not verdict.kept):
            digest = str(graph.tags[tag].digest)
            collection.report.images.append(
                JudgedImage(f"{name}:{tag}", digest, verdict.kept, verdict.rule, verdict.reason)
            )


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
        self.gone: set[Digest] = set()
        """The manifests that were removed."""

    async def tell(self) -> set[Digest]:
        """Report what a run would remove, if it would; return the manifests."""
        if self._retained.run.held:
            return set()
        async for tag in paced(self._plan.doomed):
            self._report_tag(tag)
        async for digest in paced(self._plan.manifests):
            self._report_manifest(digest)
        return set(self._plan.manifests)

    async def run(self, known: RepositoryRemovals) -> set[Digest]:
        """Remove tags, then manifests; return those that are gone."""
        removals, doomed = self._retained.retention.removals, self._plan.doomed
        known.unfinished = self._plan.waiting | self._plan.manifests.keys()
        for digest, rule in self._plan.manifests.items():
            if rule:
                known.gone.update(noted([digest], self._today, rule))
        spared: set[Tag] = set()
        for start in range(0, max(1, len(doomed)), _NOTED):
            some = doomed[start : start + _NOTED]
            for tag in some:
                known.gone.pop(tag, None)  # what goes last stands last
                known.gone.update(noted([tag], self._today, self._plan.verdicts[tag].rule))
            await removals.write(self._name, known)
            spared |= await self._remove_tags(some, known)
        await self._remove_manifests(spared)
        known.unfinished -= self.gone
        for digest in known.unfinished:
            known.gone.pop(str(digest), None)
        await removals.write(self._name, known)
        return self.gone

    async def _remove_tags(self, tags: Sequence[Tag], known: RepositoryRemovals) -> set[Tag]:
        """Remove tags that are written down as going; return those that stay."""
        gone: set[Tag] = set()
        try:
            async for _tag, _removed in in_batches(tags, partial(self._remove_tag, gone)):
                pass
        except BaseException:
            with suppress(OSError):  # it breaks off, and all are given back
                await to_its_end(self._give_back(gone))
            raise
        stay = set(tags).difference(gone) | await to_its_end(self._give_back(gone))
        for tag in tags:
            if tag not in stay:
                self._report_tag(tag)
        for tag in stay:
            known.gone.pop(tag, None)
        return stay

    async def _remove_tag(self, gone: set[Tag], tag: Tag) -> bool:
        """Remove a tag, unless it was set again, or something of its image is being pulled.

        One of which nobody knows, since that failed or was broken off, is ``gone`` as well.
        """
        target = self._graph.tags[tag]
        if self._is_pulled(target.digest):
            return False
        async with self._collection.store.turns.tag(self._name, tag):
            gone.add(tag)
            if not await self._index.tags.expire(tag, target):
                gone.remove(tag)
            return tag in gone

    async def _give_back(self, gone: AbstractSet[Tag]) -> set[Tag]:
        """Set tags again whose images were leased since the decision, and return these.

        Whoever leases an image writes that first, and then looks whether the tag is there.
        """
        try:
            leases = await leased_now(self._collection) if gone else None
        except OSError:  # which they are is not known
            await self._set_again(gone)
            raise
        if not leases:
            return set()
        back = await asyncio.to_thread(self._leased_of, gone, leases)
        await self._set_again(back)
        return back

    async def _set_again(self, tags: Iterable[Tag]) -> None:
        """Set tags that were removed, unless somebody has set them since; as many as can be."""
        failed: OSError | None = None
        for tag in tags:
            digest = self._graph.tags[tag].digest
            try:
                async with self._collection.store.turns.manifest(self._name, digest, [tag]):
                    if await self._index.manifests.remains(digest):
                        await self._index.tags.restore(tag, digest)
            except OSError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _leased_of(self, gone: AbstractSet[Tag], leases: LeasedImages) -> set[Tag]:
        tags = {tag: self._graph.tags[tag] for tag in gone}
        leased = leases.of(self._name, self._graph.nodes, tags)
        graph = ImageGraph(self._graph.nodes, self._graph.tags, leased)
        return {tag for tag, target in tags.items() if graph.leased(target.digest)}

    async def _remove_manifests(self, spared: AbstractSet[Tag]) -> None:
        """Remove what lost its last tag; who sets a tag uses the manifest first."""
        await self._retained.retention.uses.flush()
        kept = [self._graph.tags[tag].digest for tag in spared]
        held = await asyncio.to_thread(self._graph.whole, kept)
        going = self._plan.manifests.keys() & self._graph.nodes.keys()
        async for digest in remove_outermost_first(self._graph, going, self._remove_manifest, held):
            self._report_manifest(digest)
            self.gone.add(digest)

    async def _remove_manifest(self, digest: Digest) -> bool:
        if self._is_pulled(digest):
            return False
        node = self._graph.nodes[digest]
        return await unlink_unused(self._collection.store, self._name, digest, node)

    def _is_pulled(self, digest: Digest) -> bool:
        """Tell whether something of an image was used since that was last written down."""
        return self._retained.retention.uses.is_waiting(self._name, self._whole(digest))

    def _whole(self, digest: Digest) -> Iterator[Digest]:
        """Yield all that is part of an image; found out when the first is asked for."""
        yield from self._graph.whole([digest])

    def _report_tag(self, tag: Tag) -> None:
        verdict, digest = self._plan.verdicts[tag], self._graph.tags[tag].digest
        reason = f"{verdict.rule}: {verdict.reason}"
        self._collection.remove("tag", f"{self._name}:{tag}@{digest}", reason)

    def _report_manifest(self, digest: Digest) -> None:
        rule = self._plan.manifests[digest]
        reason = f"its last tag went by {rule}" if rule else "its last tag went in an earlier run"
        self._collection.remove("manifest", f"{self._name}@{digest}", reason)
