# SPDX-License-Identifier: Apache-2.0
"""The rules of ``auth.rules``: patterns of names, and what they add up to."""

import pytest
from buildset_registry.auth.rules import AccessRule, AccessRules
from buildset_registry.oci.names import RepositoryName
from buildset_registry.oci.patterns import RepositoryPattern


def rule(
    patterns: list[str],
    actions: list[str] | tuple[str] = ("pull",),
    users: list[str] | tuple[str] = ("*",),
) -> AccessRule:
    parsed = list(map(RepositoryPattern.parse, patterns))
    return AccessRule(frozenset(users), parsed, frozenset(actions))


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("org/app", "org/app", True),
        ("org/app", "org/app2", False),
        ("org/app", "org/app/x", False),
        ("org.app/x", "orgxapp/x", False),
        ("org/*", "org/app", True),
        ("org/*", "org/team/app", False),
        ("org/*", "org", False),
        ("org/**", "org/team/app", True),
        ("org/**", "organisation/app", False),
        ("**", "a", True),
        ("**", "quay.io/a/b", True),
        ("*", "a", True),
        ("*", "a/b", False),
        ("**/app", "quay.io/org/app", True),
        ("ci-*/app", "ci-1/app", True),
        ("docker.io/org/*", "org/app", True),
        ("docker.io/library/*", "app", True),
        ("index.docker.io/org/*", "org/app", True),
        ("Registry-1.Docker.io:443/org/*", "org/app", True),
        ("docker.io/**", "org/app", True),
        ("docker.io/**", "app", True),
        ("docker.io/**", "quay.io/org/app", False),
        ("docker.io/*/app", "quay.io/app", False),
        ("Quay.io/org/*", "quay.io/org/app", True),
        ("quay.io:443/org/*", "quay.io/org/app", True),
        ("quay.io./org/*", "quay.io/org/app", True),
        ("registry.example:5000/**", "registry.example__5000/org/app", True),
        ("registry.example:5000/**", "registry.example/org/app", False),
        ("registry.example__5000/**", "registry.example__5000/org/app", True),
        ("*.example:5000/**", "registry.example__5000/app", True),
        ("registry.example:*/**", "registry.example__5000/app", True),
        ("localhost:5000/*", "localhost__5000/app", True),
        ("[0:0::1]:5000/*", "ip6__0-0-0-0-0-0-0-1__5000/app", True),
        ("app", "library/app", True),
    ],
)
def test_a_pattern_matches_whole_names(pattern: str, name: str, matches: bool) -> None:
    """Names as they are stored; both names of an official image of Docker Hub count."""
    assert AccessRules([rule([pattern])]).allow("ci", "pull", RepositoryName(name)) is matches


def test_the_rules_of_a_user_add_up() -> None:
    """Each gives; none takes away what another one gave."""
    rules = AccessRules(
        [
            rule(["**"], ["pull"]),
            rule(["ci/**", "tmp/**"], ["push"], ["ci", "bot"]),
            rule(["ci/**"], ["delete"], ["ci"]),
        ]
    )
    name = RepositoryName("ci/app")
    given = {
        user: {action for action in ("pull", "push", "delete") if rules.allow(user, action, name)}
        for user in ("ci", "bot", "dev")
    }
    assert given == {"ci": {"pull", "push", "delete"}, "bot": {"pull", "push"}, "dev": {"pull"}}
    assert not rules.allow("ci", "push", RepositoryName("other"))


def test_without_rules_every_user_may_do_everything() -> None:
    """As a buildset's registry has it."""
    assert AccessRules().allow("ci", "delete", RepositoryName("any/thing"))
    assert AccessRules().allow_everything("ci")


def test_only_the_pattern_for_everything_shows_every_repository() -> None:
    """Who may pull ``**``; patterns that happen to cover what is there do not count."""
    rules = AccessRules(
        [rule(["**"], ["pull"], ["all"]), rule(["*", "*/**"]), rule(["**"], ["push"])]
    )
    assert rules.allow_everything("all")
    assert not rules.allow_everything("other")
