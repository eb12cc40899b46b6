# SPDX-License-Identifier: Apache-2.0
"""Rules and ages for tests of retention, in days."""

from __future__ import annotations

from typing import Any

from buildset_registry.oci.names import Tag
from buildset_registry.oci.patterns import (
    RepositoryMatcher,
    RepositoryPattern,
    TagMatcher,
    TagPattern,
)
from buildset_registry.retention import RetentionRule
from buildset_registry.retention.rules import ImageAge

DAY = 86400.0


def rule(
    name: str = "rule 1", repositories: str = "**", tags: str = "*", **keeps: Any
) -> RetentionRule:
    """Return a rule; times are in days."""
    for one in ("pulled_within", "pushed_within"):
        if one in keeps:
            keeps[one] *= DAY
    return RetentionRule(
        name=name,
        repositories=[RepositoryMatcher(RepositoryPattern.parse(repositories))],
        tags=[TagMatcher(TagPattern.parse(tags))],
        **keeps,
    )


def image(tag: str, pushed: float, used: float | None = None) -> ImageAge:
    """Return a tag that was pushed and last used so many days ago."""
    used = pushed if used is None else used
    return ImageAge(Tag(tag), pushed * DAY, used * DAY, used * DAY)
