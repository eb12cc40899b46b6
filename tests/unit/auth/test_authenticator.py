# SPDX-License-Identifier: Apache-2.0
"""From an Authorization header to the identity of a client, and from that to a token."""

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from buildset_registry.auth.access import ANONYMOUS, Access, Policy, Role
from buildset_registry.auth.authenticator import (
    Authenticator,
    Basic,
    Bearer,
    GrantRequest,
    parse_authorization,
)
from buildset_registry.auth.htpasswd import Htpasswd
from buildset_registry.auth.rules import AccessRule, AccessRules
from buildset_registry.auth.tokens import Signing, TokenIssuer
from buildset_registry.errors import TokenInvalid, Unauthorized
from buildset_registry.oci.names import RepositoryName
from buildset_registry.oci.patterns import RepositoryPattern

APP = RepositoryName("org/app")
#: A fixture that makes an authenticator; settings are those of its policy.
Make = Callable[..., Authenticator]
NO_COLON = "Basic " + b64encode(b"no-colon").decode()


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("header", "credentials"),
    [
        (None, None),
        ("", None),
        (basic("ci", "secret"), Basic("ci", "secret")),
        (basic("ci", "a:b"), Basic("ci", "a:b")),
        (basic("ci", ""), Basic("ci", "")),
        (basic("jürgen", "pässword"), Basic("jürgen", "pässword")),
        (basic("", ""), None),
        (basic("ci", "x").replace("Basic", "bAsIc"), Basic("ci", "x")),
        ("Bearer abc", Bearer("abc")),
        ("bearer  abc ", Bearer("abc")),
    ],
)
def test_a_header_holds_credentials_or_nothing(
    header: str | None, credentials: Basic | Bearer | None
) -> None:
    """The scheme's case does not count; docker's empty pair is nobody."""
    assert parse_authorization(header) == credentials


@pytest.mark.parametrize(
    "header", ["Digest x", "Basic !", NO_COLON, "Basic /w==", "Basic YTpi\xff", "x"]
)
def test_a_malformed_header_is_refused(header: str) -> None:
    """Never taken for nobody: the client meant to say who it is."""
    with pytest.raises(Unauthorized):
        parse_authorization(header)


@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
def test_a_header_that_is_too_long_is_refused(scheme: str) -> None:
    """Before it is read: that would take so long that others notice it."""
    with pytest.raises(Unauthorized, match="more than 65536 characters; get a token with fewer"):
        parse_authorization(f"{scheme} {'YTpi' * 20_000}")


def test_secrets_are_in_no_repr() -> None:
    """A traceback or a log line cannot give them away."""
    assert "secret" not in repr(Basic("ci", "secret")) + repr(Bearer("secret"))


@pytest.fixture(scope="module")
def htpasswd(tmp_path_factory: pytest.TempPathFactory) -> Htpasswd:
    file = tmp_path_factory.mktemp("auth") / "htpasswd"
    file.write_text(f"ci:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    return Htpasswd(file)


@pytest.fixture
def make(htpasswd: Htpasswd) -> Make:
    """Make an authenticator of an endpoint; settings are the policy's."""

    def authenticator(endpoint: Role = Role.SINGLE, **settings: Any) -> Authenticator:
        policy = Policy(endpoint=endpoint, **settings)
        return Authenticator(
            htpasswd, TokenIssuer(Signing(b"k" * 32, "registry", 300, 3000)), policy
        )

    return authenticator


@pytest.mark.parametrize("access", Access)
async def test_the_right_password_says_who_asks(make: Make, access: Access) -> None:
    """Whatever is asked for."""
    assert (await make().authenticate(basic("ci", "secret"), access)).name == "ci"


@pytest.mark.parametrize("access", Access)
async def test_a_known_user_with_a_wrong_password_is_refused(make: Make, access: Access) -> None:
    """Never taken for nobody, so that a typing error is noticed."""
    with pytest.raises(Unauthorized):
        await make().authenticate(basic("ci", "wrong"), access)


@pytest.mark.parametrize(
    ("anonymous_pull", "access", "welcome"),
    [
        (True, Access.PULL, True),
        (True, Access.BASE, True),
        (True, Access.PUSH, False),
        (True, Access.DELETE, False),
        (False, Access.PULL, False),
    ],
)
async def test_foreign_credentials_pull_as_nobody(
    make: Make, anonymous_pull: bool, access: Access, welcome: bool
) -> None:
    """docker sends a mirror its credentials of Docker Hub."""
    authenticator = make(anonymous_pull=anonymous_pull)
    if welcome:
        identity = await authenticator.authenticate(basic("hub", "x"), access)
        assert identity == ANONYMOUS
    else:
        with pytest.raises(Unauthorized):
            await authenticator.authenticate(basic("hub", "x"), access)


async def test_a_login_at_the_endpoint_to_push_does_not_tell_names(make: Make) -> None:
    """A name that is not known gets what a wrong password gets."""
    authenticator = make(endpoint=Role.PUSH)
    said = []
    for user in ("ci", "hub"):
        with pytest.raises(Unauthorized) as refused:
            await authenticator.authenticate(basic(user, "wrong"), Access.BASE)
        said.append(refused.value.message)
    assert said == ["user name or password is wrong"] * 2


@pytest.mark.parametrize("change", ["removed", "changed"])
async def test_a_token_ends_with_its_user(tmp_path: Path, change: str) -> None:
    """With the password by which it was got, for whatever it grants; that of nobody goes on."""
    file = tmp_path / "htpasswd"
    now = [0.0]
    hashes = [bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode() for _ in range(2)]
    file.write_text(f"ci:{hashes[0]}\nother:{hashes[0]}\n")
    tokens = TokenIssuer(Signing(b"k" * 32, "registry", 300, 3000))
    htpasswd = Htpasswd(file, lambda: now[0])
    authenticator = Authenticator(htpasswd, tokens, Policy(endpoint=Role.SINGLE))
    asked = GrantRequest(["repository:org/app:pull"])
    headers = {
        who: f"Bearer {(await authenticator.grant(given, asked)).token.token}"
        for who, given in {
            "ci": basic("ci", "secret"),
            "other": basic("other", "secret"),
            None: None,
        }.items()
    }
    for who, header in headers.items():
        assert (await authenticator.authenticate(header, Access.PULL)).name == who
    file.write_text(f"other:{hashes[0]}\n" + (f"ci:{hashes[1]}\n" if change == "changed" else ""))
    now[0] += 2
    for access in Access:
        with pytest.raises(TokenInvalid, match="was removed or changed"):
            await authenticator.authenticate(headers["ci"], access)
        for who in ("other", None):
            assert (await authenticator.authenticate(headers[who], access)).name == who


@pytest.mark.parametrize(
    ("who", "asked", "granted"),
    [
        (basic("ci", "secret"), "pull,push,delete", {"pull", "push", "delete"}),
        (basic("ci", "secret"), "pull", {"pull"}),
        (basic("hub", "x"), "pull,push", {"pull"}),
        (None, "pull,push,delete", {"pull"}),
        (None, "push", set()),
    ],
)
async def test_a_token_grants_what_the_caller_may_do(
    make: Make, who: str | None, asked: str, granted: set[str]
) -> None:
    """Less than was asked for, where the caller may not do it all."""
    authenticator = make()
    grant = await authenticator.grant(
        who, GrantRequest([f"repository:org/app:{asked}", "nonsense"])
    )
    identity = await authenticator.authenticate(f"Bearer {grant.token.token}", Access.PULL)
    assert identity.scopes == {APP: frozenset(granted)}


async def test_a_wrong_password_gets_no_token(make: Make) -> None:
    """Nor does a token get another one."""
    authenticator = make()
    with pytest.raises(Unauthorized):
        await authenticator.grant(basic("ci", "wrong"), GrantRequest([]))
    grant = await authenticator.grant(basic("ci", "secret"), GrantRequest([]))
    with pytest.raises(Unauthorized):
        await authenticator.grant(f"Bearer {grant.token.token}", GrantRequest([]))


async def test_a_login_fails_for_a_name_that_is_not_known(
    make: Make,
) -> None:
    """A login asks for no scope; a pull with foreign credentials does."""
    with pytest.raises(Unauthorized):
        await make().grant(basic("hub", "x"), GrantRequest([]))


async def test_a_refresh_token_gets_tokens_without_the_password(
    make: Make,
) -> None:
    """For those who asked for one, and said who they are."""
    authenticator = make()
    assert (
        await authenticator.grant(basic("ci", "secret"), GrantRequest([]))
    ).refresh_token is None
    assert (await authenticator.grant(None, GrantRequest([], offline=True))).refresh_token is None
    grant = await authenticator.grant(basic("ci", "secret"), GrantRequest([], offline=True))
    assert grant.refresh_token is not None
    renewed = authenticator.refresh(grant.refresh_token, GrantRequest(["repository:org/app:push"]))
    identity = await authenticator.authenticate(f"Bearer {renewed.token.token}", Access.PUSH)
    assert identity.name == "ci"
    assert identity.scopes == {APP: frozenset({"push"})}
    for wrong in ("", "x", renewed.token.token):
        with pytest.raises(Unauthorized):
            authenticator.refresh(wrong, GrantRequest([]))


async def test_a_token_holds_what_the_rules_give(make: Make) -> None:
    """No more than its user may do where."""
    patterns = [RepositoryPattern("org/*")]
    rules = AccessRules([AccessRule(frozenset({"ci"}), patterns, frozenset({"pull", "push"}))])
    authenticator = make(anonymous_pull=False, rules=rules)
    scopes = ["repository:org/app:pull,push,delete", "repository:other:pull", "registry:catalog:*"]
    grant = await authenticator.grant(basic("ci", "secret"), GrantRequest(scopes))
    identity = await authenticator.authenticate(f"Bearer {grant.token.token}", Access.PULL)
    other = RepositoryName("other")
    assert identity.scopes == {APP: frozenset({"pull", "push"}), other: frozenset()}
    assert not identity.catalog


def test_the_challenge_says_how_to_log_in(make: Make) -> None:
    """Bearer with the scope that is missing, or Basic."""
    bearer = make().challenge("https://r:5000", "repository:a:pull", "invalid_token")
    assert bearer == (
        'Bearer realm="https://r:5000/token",service="registry",'
        'scope="repository:a:pull",error="invalid_token"'
    )
    assert make(Role.PUSH).challenge("https://r:5000") == 'Basic realm="buildset-registry"'


def test_a_challenge_holds_nothing_that_ends_it(make: Make) -> None:
    """The Host header is the client's."""
    assert '"' not in make().challenge('https://r"\r\nX: "').split("=", 1)[1].split(",")[0][1:-1]


async def test_a_registry_without_users_lets_nobody_write(
    make: Make,
) -> None:
    """Reading stays as the policy says."""
    tokens = TokenIssuer(Signing(b"k" * 32, "registry", 300, 3000))
    authenticator = Authenticator(None, tokens, Policy(endpoint=Role.PULL))
    assert await authenticator.authenticate(basic("ci", "x"), Access.PULL) == ANONYMOUS
    with pytest.raises(Unauthorized):
        await authenticator.authenticate(basic("ci", "x"), Access.PUSH)
