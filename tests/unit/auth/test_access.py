# SPDX-License-Identifier: Apache-2.0
"""The policy of an endpoint, as a table: who, what, where, and the verdict."""

from ipaddress import ip_network
from typing import Any

import pytest
from buildset_registry.auth.access import (
    ANONYMOUS,
    Access,
    Identity,
    Intent,
    Policy,
    Role,
    Scheme,
    Verdict,
)
from buildset_registry.auth.rights import Rights
from buildset_registry.auth.rules import AccessRule, AccessRules
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.oci.patterns import RepositoryPattern

APP = RepositoryName("org/app")
OTHER = RepositoryName("org/other")
PRIVATE = RepositoryName("quay.io/org/app")
USER = Identity("ci")
PULLS_APP = Identity("ci", {APP: frozenset({"pull"})})
WRITES_APP = Identity("ci", {APP: frozenset({"pull", "push", "delete"})})

OPEN = {"anonymous_pull": True}
CLOSED = {"anonymous_pull": False}
HALF = {"private_hosts": frozenset({"quay.io"})}


@pytest.mark.parametrize(
    ("role", "settings", "who", "access", "repository", "verdict"),
    [
        (Role.PULL, OPEN, ANONYMOUS, Access.PULL, APP, Verdict.ALLOW),
        (Role.PULL, OPEN, ANONYMOUS, Access.BASE, None, Verdict.ALLOW),
        (Role.PULL, OPEN, ANONYMOUS, Access.CATALOG, None, Verdict.ALLOW),
        (Role.PULL, OPEN, USER, Access.PUSH, APP, Verdict.DENY),
        (Role.PULL, OPEN, WRITES_APP, Access.DELETE, APP, Verdict.DENY),
        (Role.PULL, CLOSED, ANONYMOUS, Access.PULL, APP, Verdict.LOGIN),
        (Role.PULL, CLOSED, ANONYMOUS, Access.BASE, None, Verdict.LOGIN),
        (Role.PULL, CLOSED, ANONYMOUS, Access.CATALOG, None, Verdict.LOGIN),
        (Role.PULL, CLOSED, USER, Access.PULL, APP, Verdict.ALLOW),
        (Role.PULL, CLOSED, USER, Access.BASE, None, Verdict.ALLOW),
        (Role.PULL, HALF, ANONYMOUS, Access.PULL, APP, Verdict.ALLOW),
        (Role.PULL, HALF, ANONYMOUS, Access.PULL, PRIVATE, Verdict.LOGIN),
        (Role.PULL, HALF, USER, Access.PULL, PRIVATE, Verdict.ALLOW),
        (Role.PUSH, OPEN, ANONYMOUS, Access.BASE, None, Verdict.LOGIN),
        (Role.PUSH, OPEN, ANONYMOUS, Access.PUSH, APP, Verdict.LOGIN),
        (Role.PUSH, OPEN, USER, Access.PUSH, APP, Verdict.ALLOW),
        (Role.PUSH, OPEN, USER, Access.DELETE, APP, Verdict.ALLOW),
        (Role.SINGLE, OPEN, ANONYMOUS, Access.PULL, APP, Verdict.ALLOW),
        (Role.SINGLE, OPEN, ANONYMOUS, Access.PUSH, APP, Verdict.LOGIN),
        (Role.SINGLE, OPEN, USER, Access.PUSH, APP, Verdict.ALLOW),
        (Role.SINGLE, CLOSED, PULLS_APP, Access.PULL, APP, Verdict.ALLOW),
        (Role.SINGLE, CLOSED, PULLS_APP, Access.PULL, OTHER, Verdict.LOGIN),
        (Role.SINGLE, CLOSED, PULLS_APP, Access.PUSH, APP, Verdict.LOGIN),
        (Role.SINGLE, CLOSED, PULLS_APP, Access.BASE, None, Verdict.ALLOW),
        (Role.SINGLE, CLOSED, PULLS_APP, Access.CATALOG, None, Verdict.LOGIN),
        (Role.SINGLE, CLOSED, WRITES_APP, Access.DELETE, APP, Verdict.ALLOW),
        (Role.SINGLE, CLOSED, WRITES_APP, Access.DELETE, OTHER, Verdict.LOGIN),
    ],
)
def test_the_policy_decides_by_endpoint_client_and_repository(
    role: Role,
    settings: dict[str, Any],
    who: Identity,
    access: Access,
    repository: RepositoryName | None,
    verdict: Verdict,
) -> None:
    """A token's scopes count instead of its holder's rights."""
    assert Policy(endpoint=role, **settings).decide(who, access, repository) is verdict


ORG_RULES = AccessRules(
    [AccessRule(frozenset({"ci"}), [RepositoryPattern("org/app")], frozenset({"pull"}))]
)
RULED: dict[str, Any] = {"anonymous_pull": False, "rules": ORG_RULES}


@pytest.mark.parametrize(
    ("access", "repository", "verdict"),
    [
        (Access.BASE, None, Verdict.ALLOW),
        (Access.PULL, APP, Verdict.ALLOW),
        (Access.PULL, OTHER, Verdict.DENY),
        (Access.PUSH, APP, Verdict.DENY),
        (Access.DELETE, APP, Verdict.DENY),
        (Access.CATALOG, None, Verdict.DENY),
    ],
)
def test_a_user_is_held_to_the_rules(
    access: Access, repository: RepositoryName | None, verdict: Verdict
) -> None:
    """Who is known and may not hears 403: no other login of this user helps."""
    assert Policy(endpoint=Role.SINGLE, **RULED).decide(USER, access, repository) is verdict


@pytest.mark.parametrize(
    ("settings", "who", "source", "allowed"),
    [
        (OPEN, USER, OTHER, True),
        (OPEN, USER, None, True),
        (CLOSED, USER, OTHER, True),
        (CLOSED, USER, None, True),
        (CLOSED, WRITES_APP, APP, True),
        (CLOSED, WRITES_APP, OTHER, False),
        (OPEN, WRITES_APP, OTHER, True),
        (RULED, USER, APP, True),
        (RULED, USER, OTHER, False),
        (RULED, USER, None, False),
        (HALF, WRITES_APP, PRIVATE, False),
        ({**CLOSED, "external": True}, WRITES_APP, None, False),
        (CLOSED, WRITES_APP, None, False),
        (HALF, WRITES_APP, None, False),
        (OPEN, WRITES_APP, None, True),
    ],
)
def test_a_blob_may_be_mounted_where_it_may_be_pulled(
    settings: dict[str, Any], who: Identity, source: RepositoryName | None, allowed: bool
) -> None:
    """A mount shows the content, so what cannot be pulled cannot be mounted."""
    policy = Policy(endpoint=Role.SINGLE, **settings)
    assert policy.may_mount(who, source) is allowed
    rights = Rights(policy, who)
    assert (rights.everything if source is None else rights.allow(source)) is allowed


@pytest.mark.parametrize(
    ("settings", "source", "target", "as_open"),
    [
        (OPEN, APP, OTHER, True),
        (OPEN, None, OTHER, True),
        (CLOSED, APP, OTHER, True),
        (CLOSED, None, OTHER, True),
        (RULED, APP, OTHER, False),
        (HALF, APP, PRIVATE, True),
        (HALF, PRIVATE, APP, False),
        (HALF, None, APP, False),
        (HALF, None, PRIVATE, True),
        ({**CLOSED, "external": True}, APP, OTHER, False),
    ],
)
def test_private_content_is_shared_with_what_is_as_private(
    settings: dict[str, Any],
    source: RepositoryName | None,
    target: RepositoryName,
    as_open: bool,
) -> None:
    """Whoever asks: this is about all who may read the second repository."""
    policy = Policy(endpoint=Role.PULL, **settings)
    for who in (ANONYMOUS, USER, PULLS_APP):
        assert Rights(policy, who).as_open(source, target) is as_open


@pytest.mark.parametrize(
    ("role", "settings", "scheme"),
    [
        (Role.PULL, OPEN, Scheme.NONE),
        (Role.PULL, CLOSED, Scheme.BASIC),
        (Role.PULL, HALF, Scheme.BEARER),
        (Role.PUSH, OPEN, Scheme.BASIC),
        (Role.SINGLE, OPEN, Scheme.BEARER),
        (Role.SINGLE, CLOSED, Scheme.BASIC),
        (Role.PUSH, {"external": True}, Scheme.BEARER),
        (Role.PULL, {"external": True}, Scheme.NONE),
        (Role.PULL, {"external": True, **CLOSED}, Scheme.BEARER),
    ],
)
def test_an_endpoint_asks_for_credentials_by_the_scheme_it_needs(
    role: Role, settings: dict[str, Any], scheme: Scheme
) -> None:
    """By the token protocol where some need a login and others do not."""
    assert Policy(endpoint=role, **settings).challenge_scheme is scheme


@pytest.mark.parametrize(
    ("networks", "address", "allowed"),
    [
        ([], "192.0.2.1", True),
        (["10.0.0.0/8"], "10.1.2.3", True),
        (["10.0.0.0/8"], "11.1.2.3", False),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        (["10.0.0.0/8", "2001:db8::/32"], "2001:db8::1", True),
        (["2001:db8::/32"], "10.1.2.3", False),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["10.0.0.0/8"], "", False),
    ],
)
def test_clients_come_from_allowed_networks_alone(
    networks: list[str], address: str, allowed: bool
) -> None:
    """An IPv4 client of a dual-stack listener counts by its IPv4 address; unknown is refused."""
    policy = Policy(endpoint=Role.PULL, allowed_networks=tuple(map(ip_network, networks)))
    assert policy.network_allowed(address) is allowed


@pytest.mark.parametrize("where", [APP, OTHER])
def test_a_token_to_push_beside_one_image_is_one_to_push(where: RepositoryName) -> None:
    """A push is left out where only an upstream has the same, if it is taken for a pull."""
    policy = Policy(endpoint=Role.SINGLE, anonymous_pull=False)
    images = {where: frozenset({Tag("v1")})}
    both = Identity("ci", {APP: frozenset({"pull", "push"})}, images=images)
    assert policy.intent(both, APP) is Intent.PUSH
    assert policy.intent(Identity("ci", {}, images=images), where) is Intent.PULL
