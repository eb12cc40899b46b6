# SPDX-License-Identifier: Apache-2.0
"""The rules of ``auth.rules`` about users and repositories; no I/O.

A rule only ever gives; what no rule gives is refused. Without rules every user may do everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from buildset_registry.oci.names import RepositoryName
from buildset_registry.oci.patterns import RepositoryMatcher, RepositoryPattern

ACTIONS = frozenset({"pull", "push", "delete"})
#: Every user, in a rule's ``users``; every action, in its ``actions``.
EVERY = "*"
_EVERYWHERE = "**"
_NOTHING: frozenset[str] = frozenset()
#: Decisions that are remembered; past this many, all are forgotten.
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Gives ``users`` the ``actions`` on the repositories whose names match one of the patterns.

    In a pattern ``*`` is any part of one component of a name, ``**`` is any number of components:
    ``org/*`` is ``org/app``, ``org/**`` is ``org/team/app`` as well, ``**`` is every repository,
    ``docker.io/**`` every one of Docker Hub.
    """

    users: frozenset[str]
    patterns: Sequence[RepositoryPattern]
    actions: frozenset[str]

    def is_for(self, user: str) -> bool:
        """Tell whether the rule is about a user."""
        return EVERY in self.users or user in self.users


class AccessRules:
    """All rules together."""

    def __init__(self, rules: Sequence[AccessRule] = ()) -> None:
        self._rules = [(rule, list(map(RepositoryMatcher, rule.patterns))) for rule in rules]
        self._remembered: dict[tuple[str, RepositoryName], frozenset[str]] = {}

    def __bool__(self) -> bool:
        """Tell whether there is a rule; without one all users are alike."""
        return bool(self._rules)

    def allow(self, user: str, action: str, repository: RepositoryName) -> bool:
        """Tell whether a user may do something in a repository."""
        if not self._rules:
            return True
        key = (user, repository)
        actions = self._remembered.get(key)
        if actions is None:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            actions = self._remembered[key] = self._actions(user, repository)
        return action in actions

    def allow_everything(self, user: str) -> bool:
        """Tell whether a user may pull from every repository, also one that does not exist yet."""
        return not self._rules or any(
            rule.is_for(user) and "pull" in rule.actions and _EVERYWHERE in rule.patterns
            for rule, _matchers in self._rules
        )

    def _actions(self, user: str, repository: RepositoryName) -> frozenset[str]:
        """Add up what the rules give, for each of the names that the image has."""
        given = [
            rule.actions
            for rule, matchers in self._rules
            if rule.is_for(user) and any(one.matches(repository) for one in matchers)
        ]
        return _NOTHING.union(*given)
