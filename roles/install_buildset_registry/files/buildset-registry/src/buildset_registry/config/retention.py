# SPDX-License-Identifier: Apache-2.0
"""The settings of retention: which of the pushed images stay, and how much room they may take."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from buildset_registry.errors import ConfigError
from buildset_registry.oci.patterns import RepositoryPattern, TagPattern

_WORDS = re.compile(r"(?P<number>\d{1,9})(?P<unit>[smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
#: The longest time: a hundred years.
_LONGEST = 100 * 366 * 86400


class Duration(int):
    """A number of seconds, which may be written as ``90s``, ``30m``, ``12h``, ``7d`` or ``2w``."""

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Return the seconds; ``ValueError`` says what is allowed."""
        seconds = value
        if isinstance(value, str) and (words := _WORDS.fullmatch(value)):
            seconds = int(words["number"]) * _UNITS[words["unit"]]
        known = isinstance(seconds, int) and not isinstance(seconds, bool)
        if not known or not 0 <= int(str(seconds)) <= _LONGEST:
            raise ValueError("a time such as 12h, 7d or 2w, or a number of seconds")
        return cls(int(str(seconds)))


#: A day.
_DAY = Duration(86400)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRuleSettings:
    """A rule: which of the images that it matches stay."""

    name: str | None = None
    """What reports and messages call it; by default ``rule 1``, ``rule 2`` and so on."""

    repositories: tuple[RepositoryPattern, ...] = (RepositoryPattern("**"),)
    """Patterns of names: ``*`` is any part of one component, ``**`` any number of components."""

    tags: tuple[TagPattern, ...] = (TagPattern("*"),)
    """Patterns of tags: ``*`` is anything, ``?`` one character, ``{uuid}`` a UUID."""

    keep_pulled_within: Duration | None = None
    """Keeps what was pulled, or else pushed, within this time."""

    keep_pushed_within: Duration | None = None
    """Keeps what was pushed within this time."""

    keep_last: int | None = None
    """Keeps so many tags of each repository, those pushed last."""

    protect: bool = False
    """Keeps everything that it matches."""

    @property
    def keeps(self) -> bool:
        """Whether there is anything that it keeps."""
        return any((self.keep_pulled_within, self.keep_pushed_within, self.keep_last))


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaSettings:
    """The room that the images of some repositories may take."""

    prefix: RepositoryPattern
    """The beginning of their names, up to a ``/``; ``**`` is all of them."""

    soft: int | None = None
    """Bytes past which the longest unused images go, of those that no rule keeps."""

    hard: int | None = None
    """Bytes from which on uploads are refused when they start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """The rules by which pushed images go, and the room that they may take."""

    rules: tuple[RetentionRuleSettings, ...] = ()
    """What any rule keeps stays, and so does what no rule matches."""

    quotas: tuple[QuotaSettings, ...] = ()
    delay: Duration = _DAY
    """How long an image that no rule keeps any more stays all the same, and for how long nothing
    is removed after the rules were changed."""


def check_retention(settings: RetentionSettings | None, source: str) -> None:
    """Raise ``ConfigError`` for rules that cannot be meant."""
    if settings is None:
        return
    for number, rule in enumerate(settings.rules):
        problem = _problem_of_rule(rule)
        if problem:
            raise ConfigError(f"{source}: retention.rules[{number}] {problem}")
    for number, quota in enumerate(settings.quotas):
        problem = _problem_of_quota(quota)
        if problem:
            raise ConfigError(f"{source}: retention.quotas[{number}] {problem}")
    names = Counter(rule.name for rule in settings.rules if rule.name is not None)
    prefixes = Counter(quota.prefix for quota in settings.quotas)
    for what, counted in (("rules of the name", names), ("quotas of", prefixes)):
        twice = [one for one, number in counted.items() if number > 1]
        if twice:
            raise ConfigError(f"{source}: retention has two {what} {twice[0]}; make them one")


def _problem_of_rule(rule: RetentionRuleSettings) -> str:
    if not rule.repositories or not rule.tags:
        return "matches nothing: its repositories or tags are an empty list; name some"
    if rule.protect and rule.keeps:
        return "contradicts itself: protect keeps all that it matches; leave keep_... out"
    if not rule.protect and not rule.keeps:
        return (
            "keeps nothing; give it keep_pulled_within, keep_pushed_within or keep_last, more than "
            "0, or protect: true"
        )
    return ""


def _problem_of_quota(quota: QuotaSettings) -> str:
    if quota.soft is None and quota.hard is None:
        return "limits nothing; give it soft or hard, in bytes"
    if quota.soft is not None and quota.hard is not None and quota.soft > quota.hard:
        return f"has soft {quota.soft} above hard {quota.hard}; uploads would be refused before"
    return ""
