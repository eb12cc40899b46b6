# SPDX-License-Identifier: Apache-2.0
"""Whatever a client sends is refused or understood, and never breaks the server."""

import contextlib
from base64 import b64encode, urlsafe_b64encode

import jwt
import pytest
from buildset_registry.auth.authenticator import parse_authorization
from buildset_registry.auth.external_tokens import ExternalTokens, TokenServer
from buildset_registry.auth.rules import ACTIONS
from buildset_registry.auth.tokens import Signing, TokenIssuer, parse_scope
from buildset_registry.errors import Unauthorized
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KEY = b"k" * 32
#: The machine may be busy with other things.
patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TOKENS = TokenIssuer(Signing(KEY, "registry", 300, 3000))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
ACCESS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["repository", "registry", "x"]) | JSON,
        "name": st.sampled_from(["org/app", "catalog", "../x"]) | JSON,
        "actions": st.lists(st.sampled_from(["pull", "push", "*"]) | JSON) | JSON,
    },
)


@patiently
@given(
    st.text()
    | st.text().map(lambda text: f"Basic {text}")
    | st.binary().map(lambda raw: f"Basic {b64encode(raw).decode()}")
)
def test_any_authorization_header_is_understood_or_refused(header: str) -> None:
    """A header is understood, or it is 401."""
    with contextlib.suppress(Unauthorized):
        parse_authorization(header)


@patiently
@given(st.text() | st.from_regex(r"repository:[a-z/:.]*:[a-z,*]*", fullmatch=True))
def test_any_scope_is_understood_or_left_out(text: str) -> None:
    """A scope asks for known actions, or for nothing."""
    scope = parse_scope(text)
    assert scope is None or scope.repository is None or scope.actions <= ACTIONS


@patiently
@given(st.text())
def test_any_text_is_no_token(token: str) -> None:
    """No text that is not signed is a token."""
    for check in (TOKENS.verify, lambda text: TOKENS.refresh_user(text, lambda user: "hash")):
        with contextlib.suppress(Unauthorized):
            check(token)
            raise AssertionError(token)


@pytest.mark.parametrize(
    "head",
    [
        "[" * 100_000,
        '{"alg": "HS256", "x": ' + "[" * 100_000,
        '{"alg": ["HS256"]}',
        '{"alg": {"a": 1}}',
        '{"alg": "HS256", "kid": [1]}',
        '{"alg": "HS256", "crit": ["x"]}',
        "1",
    ],
    ids=range(7),
)
def test_any_head_of_a_token_is_refused(head: str) -> None:
    """It is read before the signature is verified."""
    issuer = TokenServer("https://t", "registry", "tokens", ())
    token = f"{urlsafe_b64encode(head.encode()).decode().rstrip('=')}.e30.eA"
    for verify in (TOKENS.verify, ExternalTokens(issuer).verify):
        with pytest.raises(Unauthorized):
            verify(token)


@patiently
@given(st.dictionaries(st.sampled_from(["exp", "nbf", "sub", "access", "iat", "jti"]), JSON))
def test_any_claims_are_read_or_refused(claims: dict[str, object]) -> None:
    """Even under a good signature."""
    whole = {"exp": 2**40, "nbf": 0, "sub": "ci", **claims, "iss": "registry", "aud": "registry"}
    token = jwt.encode(whole, KEY, "HS256")
    with contextlib.suppress(Unauthorized):
        TOKENS.verify(token)


@patiently
@given(st.lists(ACCESS))
def test_any_access_grants_names_and_actions_alone(access: list[object]) -> None:
    """What is granted are names and actions; the rest counts for nothing."""
    claims = {"exp": 2**40, "nbf": 0, "sub": "ci", "access": access}
    token = jwt.encode({**claims, "iss": "registry", "aud": "registry"}, KEY, "HS256")
    identity = TOKENS.verify(token)
    assert "../x" not in (identity.scopes or {})
