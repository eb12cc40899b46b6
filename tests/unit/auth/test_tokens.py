# SPDX-License-Identifier: Apache-2.0
"""Tokens: what they grant, and every way to forge one."""

import base64
import json
import time
from typing import Any

import jwt
import pytest
from buildset_registry.auth.tokens import Scope, Signing, TokenIssuer, parse_scope
from buildset_registry.errors import Unauthorized
from buildset_registry.oci.names import RepositoryName

KEY = b"k" * 32
APP = RepositoryName("org/app")


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> TokenIssuer:
    return TokenIssuer(Signing(KEY, "registry", 300, refresh_seconds=3000), clock)


def scope(text: str) -> Scope:
    found = parse_scope(text)
    assert found is not None
    return found


def claims(clock: Clock, **changes: Any) -> dict[str, Any]:
    now = int(clock())
    valid = {
        "iss": "registry",
        "aud": "registry",
        "sub": "ci",
        "iat": now,
        "nbf": now,
        "exp": now + 60,
        "access": [{"type": "repository", "name": "org/app", "actions": ["pull"]}],
    }
    return {key: value for key, value in {**valid, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("repository:org/app:pull", Scope(APP, frozenset({"pull"}), "org/app")),
        ("repository:org/app:pull,push", Scope(APP, frozenset({"pull", "push"}), "org/app")),
        (
            "repository:docker.io/org/app:*",
            Scope(APP, frozenset({"pull", "push", "delete"}), "docker.io/org/app"),
        ),
        ("repository(plugin):org/app:pull", Scope(APP, frozenset({"pull"}), "org/app")),
        ("repository:org/app:fly", Scope(APP, frozenset(), "org/app")),
        ("registry:catalog:*", Scope(None, frozenset({"*"}), "catalog")),
        ("repository:UPPER:pull", None),
        ("registry:other:*", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_a_scope_asks_for_actions_on_a_repository(text: str, parsed: Scope | None) -> None:
    """What is not understood is left out, as the token protocol has it."""
    assert parse_scope(text) == parsed


def test_a_token_grants_what_it_was_issued_for(tokens: TokenIssuer) -> None:
    """Its holder's name, actions by repository, and the catalog if it says so."""
    issued = tokens.issue("ci", [scope("repository:docker.io/org/app:pull,push")])
    identity = tokens.verify(issued.token)
    assert identity.name == "ci"
    assert identity.scopes == {APP: frozenset({"pull", "push"})}
    assert not identity.catalog
    assert tokens.verify(tokens.issue(None, [scope("registry:catalog:*")]).token).catalog
    assert tokens.verify(tokens.issue(None, []).token).name is None


def test_a_token_ends_when_its_time_is_over(tokens: TokenIssuer, clock: Clock) -> None:
    """Also one that was verified before."""
    issued = tokens.issue("ci", [])
    tokens.verify(issued.token)
    clock.now += issued.expires_in + 1
    with pytest.raises(Unauthorized, match="expired"):
        tokens.verify(issued.token)


@pytest.mark.parametrize(
    ("changes", "key", "algorithm"),
    [
        ({}, b"x" * 32, "HS256"),
        ({}, KEY, "HS384"),
        ({}, None, "none"),
        ({"iss": "another"}, KEY, "HS256"),
        ({"aud": "another"}, KEY, "HS256"),
        ({"aud": None}, KEY, "HS256"),
        ({"exp": None}, KEY, "HS256"),
        ({"exp": 1}, KEY, "HS256"),
        ({"exp": "tomorrow"}, KEY, "HS256"),
        ({"nbf": 2**40}, KEY, "HS256"),
        ({"sub": None}, KEY, "HS256"),
    ],
)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_forged_or_foreign_token_is_refused(
    tokens: TokenIssuer, clock: Clock, changes: dict[str, Any], key: Any, algorithm: str
) -> None:
    """Another key, algorithm, issuer, audience, no algorithm at all, expired or not yet valid."""
    token = jwt.encode(claims(clock, **changes), key, algorithm)
    with pytest.raises(Unauthorized):
        tokens.verify(token)


def test_the_claims_of_the_forgeries_are_good_otherwise(tokens: TokenIssuer, clock: Clock) -> None:
    """So that each row above fails for its own reason."""
    assert tokens.verify(jwt.encode(claims(clock), KEY, "HS256")).scopes == {
        APP: frozenset({"pull"})
    }


def test_a_token_with_other_claims_and_the_old_signature_is_refused(tokens: TokenIssuer) -> None:
    """The signature covers what is granted."""
    head, _, signature = tokens.issue("ci", []).token.split(".")
    forged = base64.urlsafe_b64encode(json.dumps({"sub": "root"}).encode()).decode().rstrip("=")
    with pytest.raises(Unauthorized):
        tokens.verify(f"{head}.{forged}.{signature}")


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.b.c", "ä.b.c", "." * 10_000])
def test_nonsense_is_refused(tokens: TokenIssuer, token: str) -> None:
    """With the same answer as a forgery."""
    with pytest.raises(Unauthorized):
        tokens.verify(token)


@pytest.mark.parametrize(
    "access",
    [
        None,
        "pull",
        [None, "x", 1, {}],
        [{"type": "repository", "name": "org/app", "actions": "pull"}],
        [{"type": "repository", "name": "UPPER", "actions": ["pull"]}],
        [{"type": "repository", "actions": ["pull"]}],
        [{"type": "plugin", "name": "org/app", "actions": ["pull"]}],
        [{"type": "registry", "name": "catalog", "actions": []}],
    ],
)
def test_access_that_is_not_understood_grants_nothing(
    tokens: TokenIssuer, clock: Clock, access: list[Any] | str | None
) -> None:
    """Nor does it break the server."""
    identity = tokens.verify(jwt.encode(claims(clock, access=access), KEY, "HS256"))
    assert (identity.scopes, identity.catalog) == ({}, False)


def test_a_refresh_token_stands_for_its_user(tokens: TokenIssuer, clock: Clock) -> None:
    """Until it expires, or the password is another one, or the user is gone."""
    stamps = {"ci": "hash"}
    token = tokens.issue_refresh("ci", "hash")
    assert token
    assert tokens.refresh_user(token, stamps.get) == "ci"
    for changed in ({"ci": "another"}, {}):
        with pytest.raises(Unauthorized):
            tokens.refresh_user(token, changed.get)
    clock.now += 3000
    with pytest.raises(Unauthorized):
        tokens.refresh_user(token, stamps.get)


def test_a_refresh_token_opens_nothing_and_an_access_token_refreshes_nothing(
    tokens: TokenIssuer,
) -> None:
    """Each is for its own use."""
    with pytest.raises(Unauthorized):
        tokens.verify(str(tokens.issue_refresh("ci", "hash")))
    with pytest.raises(Unauthorized):
        tokens.refresh_user(tokens.issue("ci", []).token, {"ci": "hash"}.get)


def test_no_refresh_token_where_none_are_wanted() -> None:
    """Where the key ends with the process, a client would be locked out after a restart."""
    assert TokenIssuer(Signing(KEY, "registry", 300)).issue_refresh("ci", "hash") is None


def test_what_is_remembered_of_tokens_has_a_bound_in_bytes(tokens: TokenIssuer) -> None:
    """A token may have thousands of scopes, and anybody gets as many tokens as he asks for."""
    wide = [scope(f"image:org/app:v{number}:pull") for number in range(1000)]
    for number in range(80):
        token = tokens.issue("ci", [*wide, scope(f"image:org/app{number}:v:pull")]).token
        assert len(token) > 60_000
        assert len(tokens.verify(token).images) == 2
    kept = len(tokens._verified)
    assert 0 < kept * len(token) <= 4 * 1024 * 1024
    small = [
        tokens.issue("ci", [scope(f"image:org/{number}:v:pull")]).token for number in range(50)
    ]
    first = [tokens.verify(one) for one in small]
    assert all(tokens.verify(one) is known for one, known in zip(small, first, strict=True))
