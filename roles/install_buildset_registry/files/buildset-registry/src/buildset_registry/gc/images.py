# SPDX-License-Identifier: Apache-2.0
"""Images as wholes: an index with its children and referrers, and what goes with a tag; pure.

A signature that a tool keeps under a tag of its own (``sha256-<hex>.sig``, or the fallback tag of
the distribution specification, "Referrers Tag Schema") is part of the image that it names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from buildset_registry.gc.reachability import ManifestNode
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Tag, referrers_tag
from buildset_registry.retention import RetentionRun
from buildset_registry.retention.rules import PULLING, ImageAge, Judgement, RetentionRule, decide
from buildset_registry.retention.timeline import minute
from buildset_registry.store.base import TagTarget

_COMPANION = re.compile(r"(?P<subject>sha(?:256|512)-[a-f0-9]{64})(?:[a-f0-9]{64})?(?:\..+)?")


class ImageGraph:
    """The manifests of a repository, and the tags that lead to them."""

    def __init__(
        self,
        nodes: Mapping[Digest, ManifestNode],
        tags: Mapping[Tag, TagTarget],
        leased: Mapping[Digest, float] | None = None,
    ) -> None:
        self.nodes = nodes
        self.tags = tags
        self._leased = leased or {}
        self._beside: dict[Digest, list[Digest]] = {}
        for digest, node in nodes.items():
            if node.subject is not None:
                self._beside.setdefault(node.subject, []).append(digest)
        self.companions = self._companions()
        for tag, subject in self.companions.items():
            self._beside.setdefault(subject, []).append(tags[tag].digest)

    def _companions(self) -> dict[Tag, Digest]:
        """Return the tags of signatures and the like, and the image that each is part of."""
        named = {str(referrers_tag(digest)): digest for digest in self.nodes}
        found = {}
        for tag in self.tags:
            match = _COMPANION.fullmatch(tag)
            subject = named.get(match["subject"]) if match else None
            if subject is not None and subject != self.tags[tag].digest:
                found[tag] = subject
        return found

    def whole(self, roots: Iterable[Digest]) -> dict[Digest, Digest]:
        """Return images with all that is part of them, each with the root it was found by."""
        found: dict[Digest, Digest] = {}
        waiting = [(root, root) for root in roots]
        while waiting:
            digest, root = waiting.pop()
            if digest in found or digest not in self.nodes:
                continue
            found[digest] = root
            waiting += [(one, root) for one in self._parts(digest)]
        return found

    def outermost_first(self, digests: AbstractSet[Digest]) -> Iterator[list[Digest]]:
        """Yield manifests some at a time, each before what is part of it."""
        holders = Counter(part for one in digests for part in self._parts(one))
        left, some = set(digests), [one for one in digests if not holders[one]]
        while left:
            # Tags of signatures may make images parts of each other: those come at the end.
            some = some or list(left)
            yield some
            left.difference_update(some)
            parts = [part for one in some for part in self._parts(one)]
            holders.subtract(parts)
            some = [one for one in dict.fromkeys(parts) if one in left and not holders[one]]

    def _parts(self, digest: Digest) -> Iterable[Digest]:
        """Return what a manifest lists, and what refers to it."""
        return (*self.nodes[digest].children, *self._beside.get(digest, ()))

    def used(self, tag: Tag) -> float:
        """Return when something of a tag's image was last used."""
        target = self.tags[tag]
        parts = self.whole([target.digest])
        return max([target.checked, *(self.nodes[one].used for one in parts)])

    def leased(self, digest: Digest) -> float:
        """Return until when something of an image is leased; 0 where nothing is."""
        if not self._leased:
            return 0.0
        return max((self._leased.get(one, 0.0) for one in self.whole([digest])), default=0.0)

    def falling(self, roots: AbstractSet[Digest], tagged: Iterable[Digest]) -> dict[Digest, Digest]:
        """Return what goes when images lost their tags: what nothing else holds."""
        parts = self.whole(roots)
        held = self.whole({*tagged, *(one for one in self.nodes if one not in parts)})
        return {one: root for one, root in parts.items() if one not in held}


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """The decision on a repository."""

    verdicts: Mapping[Tag, Judgement]
    manifests: Mapping[Digest, str]
    """The manifests that go with the last of their tags, and the rule by which; nothing for those
    whose tags went in an earlier run."""

    waiting: AbstractSet[Digest]
    """Those that lost their tags in an earlier run, and were used since."""

    matched: AbstractSet[str]
    """The rules that match a tag."""

    @property
    def doomed(self) -> list[Tag]:
        """Return the tags that go."""
        return [tag for tag, verdict in self.verdicts.items() if not verdict.kept]


def plan_retention(
    graph: ImageGraph,
    run: RetentionRun,
    rules: list[RetentionRule],
    *,
    crowded: Mapping[Tag, Judgement],
    unfinished: AbstractSet[Digest] = frozenset(),
) -> RetentionPlan:
    """Decide on a repository; ``crowded`` are tags that have to make room, where no rule keeps.

    ``unfinished`` images lost their tags in an earlier run.
    """
    ages, verdicts = judgements(graph, run, rules)
    for image in ages:
        verdict = crowded.get(image.tag)
        if verdict is not None and not verdicts[image.tag].rule and image.used >= PULLING:
            verdicts[image.tag] = verdict
    doomed = {tag for tag, verdict in verdicts.items() if not verdict.kept}
    waiting = {one for one in unfinished if _in_use(graph, run, one) or graph.leased(one)}
    left = unfinished - waiting
    while True:
        tagged = {target.digest for tag, target in graph.tags.items() if tag not in doomed}
        falling = graph.falling({graph.tags[tag].digest for tag in doomed} | left, tagged)
        more = {
            tag
            for tag, subject in graph.companions.items()
            if subject in falling and tag not in doomed and not _protected(tag, rules)
        }
        if not more:
            break
        doomed |= more
    by_root = {graph.tags[tag].digest: verdict.rule for tag, verdict in verdicts.items()}
    gone = {one: by_root.get(root, "") for one, root in falling.items()}
    for tag, subject in graph.companions.items():
        verdicts[tag] = _companion(tag in doomed, subject, gone.get(subject, ""))
    matched = {rule.name for rule in rules if any(map(rule.matches, graph.tags))}
    return RetentionPlan(verdicts, gone, waiting, matched)


def judgements(
    graph: ImageGraph, run: RetentionRun, rules: list[RetentionRule]
) -> tuple[list[ImageAge], dict[Tag, Judgement]]:
    """Return how old images are, and what the rules and the leases say of them."""
    ages = image_ages(graph, run)
    verdicts = decide(ages, rules, run.policy.delay)
    for image in ages:
        verdict, until = verdicts[image.tag], graph.leased(graph.tags[image.tag].digest)
        if until and not (verdict.kept and verdict.rule):
            verdicts[image.tag] = Judgement(True, "a token", f"leased until {minute(until)}")
    return ages, verdicts


def image_ages(graph: ImageGraph, run: RetentionRun) -> list[ImageAge]:
    """Return how old the images of a repository are, those that are part of others left out."""
    recorded = run.age(run.timeline.recorded)
    found = []
    used_by_digest: dict[Digest, float] = {}
    for tag, target in graph.tags.items():
        if tag in graph.companions:
            continue
        used = used_by_digest.get(target.digest)
        if used is None:
            used = used_by_digest[target.digest] = run.age(graph.used(tag))
        pushed = run.age(target.checked)
        used = min(used, pushed)
        found.append(ImageAge(tag, pushed, used, min(used, recorded)))
    return found


def _in_use(graph: ImageGraph, run: RetentionRun, digest: Digest) -> bool:
    return any(run.age(graph.nodes[one].used) < PULLING for one in graph.whole([digest]))


def _protected(tag: Tag, rules: Iterable[RetentionRule]) -> bool:
    return any(rule.protect and rule.matches(tag) for rule in rules)


def _companion(doomed: bool, subject: Digest, rule: str) -> Judgement:
    if doomed:
        return Judgement(False, rule, f"part of {subject}, which goes")
    return Judgement(True, "", "protected" if rule else f"part of {subject}, which stays")
