# SPDX-License-Identifier: Apache-2.0
"""Retention's decision: which tags of a repository stay, by which rule; pure.

The union of the rules keeps, and what no rule matches stays. A rule that kept an image until a
short while ago keeps it still: there is a ``delay`` in which somebody may notice.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.oci.patterns import RepositoryMatcher, TagMatcher

#: What was used within an hour may be in the middle of a pull, and stays whatever rules say: the
#: client that has the manifest comes for its layers. The time of a use is written down once an
#: hour: what looks so old by it may have been used just now.
PULLING = 2 * 3600.0
#: Units of a time as people say it.
_UNITS = ((2 * 86400, 86400, "days"), (2 * 3600, 3600, "hours"), (0, 60, "minutes"))


@dataclass(frozen=True, slots=True)
class ImageAge:
    """A tag, and how long ago things happened to its image, in seconds."""

    tag: Tag
    pushed: float
    """The tag was set."""

    used: float
    """Something of the image was pulled or pushed, by whichever of its names and digests."""

    unpulled: float
    """For how long it is known that nobody pulled it."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The decision on a tag, for people and scripts."""

    kept: bool
    rule: str
    """The rule that decided; nothing where none matches."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """A rule, with times in seconds."""

    name: str
    repositories: Sequence[RepositoryMatcher]
    tags: Sequence[TagMatcher]
    pulled_within: float | None = None
    pushed_within: float | None = None
    last: int | None = None
    protect: bool = False

    def governs(self, name: RepositoryName) -> bool:
        """Tell whether it is about a repository."""
        return any(one.matches(name) for one in self.repositories)

    def matches(self, tag: Tag) -> bool:
        """Tell whether it is about a tag of such a repository."""
        return any(one.matches(tag) for one in self.tags)


def decide(
    images: Iterable[ImageAge], rules: Sequence[RetentionRule], delay: float
) -> dict[Tag, Judgement]:
    """Return what the rules of a repository say of its tags."""
    verdicts: dict[Tag, Judgement] = {}
    matched: dict[Tag, tuple[ImageAge, RetentionRule]] = {}
    images = list(images)
    for rule in rules:
        found = [image for image in images if rule.matches(image.tag)]
        pushed = sorted(image.pushed for image in found)
        for image in found:
            matched.setdefault(image.tag, (image, rule))
            if image.tag in verdicts:
                continue
            reason = _reason_to_keep(image, rule, pushed, delay)
            if reason:
                verdicts[image.tag] = Judgement(True, rule.name, reason)
    for image in images:
        if image.tag not in verdicts:
            verdicts[image.tag] = _without_keeper(image, matched.get(image.tag))
    return verdicts


def _reason_to_keep(
    image: ImageAge, rule: RetentionRule, pushed: Sequence[float], delay: float
) -> str:
    """Return why a rule that matches an image keeps it; nothing where it does not."""
    if rule.protect:
        return "protected"
    if rule.pulled_within is not None and image.unpulled <= rule.pulled_within + delay:
        return f"last used {ago(image.used)}"
    if rule.pushed_within is not None and image.pushed <= rule.pushed_within + delay:
        return f"pushed {ago(image.pushed)}"
    # Those that were pushed a short while ago, or in the future of a wrong clock, have not taken
    # anybody's place yet.
    newer = bisect_left(pushed, image.pushed) - bisect_left(pushed, max(delay, 1.0))
    if rule.last is not None and newer < rule.last:
        return f"among the last {rule.last} pushed"
    return ""


def _without_keeper(image: ImageAge, matched: tuple[ImageAge, RetentionRule] | None) -> Judgement:
    if matched is None:
        return Judgement(True, "", "no rule matches")
    if image.used < PULLING:
        return Judgement(True, "in use", f"last used {ago(image.used)}")
    reason = f"pushed {ago(image.pushed)}, last used {ago(image.used)}"
    return Judgement(False, matched[1].name, reason)


def ago(seconds: float) -> str:
    """Return how long ago something was, for people.

    >>> ago(3 * 86400 + 7000)
    '3 days ago'
    """
    size, unit = next((size, unit) for least, size, unit in _UNITS if seconds >= least)
    return f"{int(seconds // size)} {unit} ago"
