# SPDX-License-Identifier: Apache-2.0
"""The decision of retention's rules, in days."""

from __future__ import annotations

import pytest
from buildset_registry.errors import TagInvalid
from buildset_registry.oci.names import Tag
from buildset_registry.oci.patterns import TagMatcher, TagPattern
from buildset_registry.retention import RetentionRule
from buildset_registry.retention.rules import ImageAge, ago, decide

from tests.unit.retention.ages import DAY, image, rule

BUILD = "0123456789abcdef0123456789abcdef"
PULLED, PUSHED = rule(pulled_within=7), rule("rule 2", pushed_within=14)


def kept(images: list[ImageAge], *rules: RetentionRule, delay: float = 0) -> list[str]:
    """Return the tags that stay, sorted."""
    return sorted(tag for tag, one in decide(images, rules, delay * DAY).items() if one.kept)


@pytest.mark.parametrize(
    ("rules", "pushed", "used", "stays"),
    [
        ([PULLED], 30, 6, True),
        ([PULLED], 30, 8, False),
        ([PUSHED], 13, 13, True),
        ([PUSHED], 15, 15, False),
        ([PULLED, PUSHED], 13, 8, True),
        ([PULLED, PUSHED], 15, 6, True),
        ([PULLED, PUSHED], 15, 8, False),
        ([rule(protect=True), PUSHED], 999, 999, True),
        ([rule(tags="other-*", protect=True), PUSHED], 999, 999, False),
        ([rule(tags="other-*", pushed_within=1)], 999, 999, True),
        ([], 999, 999, True),
    ],
)
def test_the_union_keeps_and_what_no_rule_matches_stays(
    rules: list[RetentionRule], pushed: float, used: float, stays: bool
) -> None:
    """A rule that does not match says nothing, and one that keeps is enough."""
    assert bool(kept([image("tag", pushed, used)], *rules)) is stays


def test_what_is_in_use_stays_whatever_rules_say() -> None:
    """A client that has just got a manifest comes for its layers."""
    found = decide([image("tag", 99, 0.01)], [rule(pushed_within=1)], 0)
    assert (found[Tag("tag")].kept, found[Tag("tag")].rule) == (True, "in use")


def test_what_was_pulled_again_before_that_was_written_again_is_in_use() -> None:
    """A use is written down once an hour: the pull of a minute ago may be told by no link."""
    written = 3600 + 60
    assert kept([image("tag", 99, written / DAY)], rule(pushed_within=1)) == ["tag"]
    assert kept([image("tag", 99, (written + 3600) / DAY)], rule(pushed_within=1)) == []


def test_the_last_pushed_stay_however_old_they_are() -> None:
    """Of each repository, and of what the rule matches."""
    images = [image(f"v{number}", 100 - number) for number in range(6)]
    last = rule(tags="v*", last=2)
    assert kept([*images, image("latest", 1)], last) == ["latest", "v4", "v5"]
    assert kept(images, last, rule("rule 2", tags="v0", pushed_within=200)) == ["v0", "v4", "v5"]


def test_a_newer_tag_takes_the_place_of_another_after_the_delay() -> None:
    """Nor does one that was pushed in the future of a wrong clock, whose age is 0."""
    images = [image("old", 50), image("new", 2), image("future", 0)]
    assert kept(images, rule(last=1), delay=3) == ["future", "new", "old"]
    assert kept(images, rule(last=1), delay=1) == ["future", "new"]


def test_those_pushed_at_one_time_share_their_place() -> None:
    """Nobody knows which of them is the last."""
    images = [image("a", 9), image("b", 9), image("c", 9)]
    assert kept(images, rule(last=1)) == ["a", "b", "c"]
    assert kept([*images, image("d", 8)], rule(last=1)) == ["d"]


def test_an_image_that_no_rule_keeps_stays_for_the_delay() -> None:
    """So that somebody may notice."""
    assert kept([image("tag", 14.9)], PUSHED, delay=1) == ["tag"]
    assert kept([image("tag", 15.1)], PUSHED, delay=1) == []


def test_a_judgement_names_the_rule_and_the_ages() -> None:
    """People read it."""
    found = decide([image("one", 20, 9), image("two", 3)], [PULLED, PUSHED], 0)
    one, two = found[Tag("one")], found[Tag("two")]
    assert (one.kept, one.rule) == (False, "rule 1")
    assert one.reason == "pushed 20 days ago, last used 9 days ago"
    assert (two.kept, two.rule, two.reason) == (True, "rule 1", "last used 3 days ago")
    assert [ago(0), ago(60 * 119), ago(47 * 3600)] == [
        "0 minutes ago",
        "119 minutes ago",
        "47 hours ago",
    ]


@pytest.mark.parametrize(
    ("pattern", "tag", "matches"),
    [
        ("*", "anything", True),
        ("v1.*", "v1.2", True),
        ("v1.*", "v12", False),
        ("v?", "v1", True),
        ("v?", "v10", False),
        ("{uuid}_*", f"{BUILD}_latest", True),
        ("{uuid}_*", "01234567-89ab-cdef-0123-456789abcdef_latest", True),
        ("{uuid}_*", f"{BUILD[1:]}g_latest", False),
        ("{uuid}_*", "latest", False),
    ],
)
def test_patterns_of_tags_match_whole_tags(pattern: str, tag: str, matches: bool) -> None:
    """A dot is a dot."""
    assert TagMatcher(TagPattern.parse(pattern)).matches(Tag(tag)) is matches


@pytest.mark.parametrize("pattern", ["", "a b", "{build}", "tag/other", "[a-z]"])
def test_a_pattern_that_matches_no_tag_is_refused(pattern: str) -> None:
    """By a line that shows it."""
    with pytest.raises(TagInvalid, match="matches no tag"):
        TagPattern.parse(pattern)
