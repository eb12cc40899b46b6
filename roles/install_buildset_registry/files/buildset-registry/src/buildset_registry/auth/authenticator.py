# SPDX-License-Identifier: Apache-2.0
"""Authentication: from an Authorization header to the client's identity, and to a token for it."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from buildset_registry.auth.access import ANONYMOUS, Access, Identity, Policy, Role, Scheme
from buildset_registry.auth.claims import TokenVerifier
from buildset_registry.auth.htpasswd import Htpasswd
from buildset_registry.auth.tokens import MOST_SCOPES, Scope, Token, TokenIssuer, parse_scope
from buildset_registry.errors import ScopeInvalid, TokenInvalid, Unauthorized
from buildset_registry.oci.names import Reference, RepositoryName

REALM = "buildset-registry"
#: Characters of an Authorization header; the endpoint to pull takes no longer head at all. A token
#: is read before it is known whose it is, and nobody else has a turn meanwhile.
_LONGEST = 64 * 1024


@dataclass(frozen=True, slots=True)
class Basic:
    """A user name and a password."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token."""

    token: str = field(repr=False)


def parse_authorization(header: str | None) -> Basic | Bearer | None:
    """Return what a header holds; ``Unauthorized`` for one that is malformed."""
    if not header:
        return None
    if len(header) > _LONGEST:
        raise Unauthorized(
            f"the Authorization header has more than {_LONGEST} characters; get a token with fewer "
            "scopes"
        )
    scheme, _separator, value = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return Bearer(value.strip())
    if scheme.lower() == "basic":
        return _parse_basic(value.strip())
    raise Unauthorized("the Authorization header is neither Basic nor Bearer")


def _parse_basic(value: str) -> Basic | None:
    """Decode ``user:password``; docker sends an empty pair where it has no credentials."""
    try:
        user, separator, password = b64decode(value, validate=True).decode().partition(":")
    except ValueError:  # also where the header is not ASCII
        raise Unauthorized("the Basic credentials are malformed") from None
    if not separator:
        raise Unauthorized("the Basic credentials are malformed")
    return Basic(user, password) if user or password else None


@dataclass(frozen=True, slots=True)
class GrantRequest:
    """The token that a client asks for."""

    scopes: Sequence[str]
    offline: bool = False
    """Whether a refresh token is asked for beside it, which gets others without the password."""

    seconds: int | None = None
    """For how long it is to live; that is for a user to say, of a token for single images."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The tokens that a client gets for its credentials."""

    token: Token
    refresh_token: str | None
    scopes: tuple[Scope, ...] = ()
    """What the token grants."""

    user: str | None = None
    """Whose token it is; None: nobody's."""

    @property
    def images(self) -> list[tuple[RepositoryName, Reference]]:
        """Return the single images that a user may pull by it."""
        return [
            (one.repository, one.reference)
            for one in self.scopes
            if self.user and "pull" in one.actions and one.repository and one.reference
        ]


class Authenticator:
    """Knows the users and the tokens of one endpoint, and its policy."""

    def __init__(self, htpasswd: Htpasswd | None, tokens: TokenVerifier, policy: Policy) -> None:
        self._htpasswd = htpasswd
        self._tokens = tokens
        self.policy = policy

    async def authenticate(self, header: str | None, access: Access, client: str = "") -> Identity:
        """Return the client's identity; ``Unauthorized`` for wrong credentials.

        docker sends a mirror its Docker Hub credentials (moby#30880, moby#42022): a user that this
        registry does not know pulls as nobody, where anonymous pulling is on.
        """
        if not header:
            return ANONYMOUS
        credentials = parse_authorization(header)
        if credentials is None:
            return ANONYMOUS
        if not isinstance(credentials, Basic):
            return self._by_token(credentials.token)
        return await self._by_password(
            credentials, client, foreign_allowed=self._may_be_foreign(access)
        )

    async def grant(self, header: str | None, asked: GrantRequest, client: str = "") -> Grant:
        """Issue a token for those of the scopes that the caller may have."""
        issuer = self._issuer()
        _check_number(asked)
        credentials = parse_authorization(header)
        identity = ANONYMOUS
        if credentials is not None:
            if not isinstance(credentials, Basic):
                raise Unauthorized("get a token with a user name and password")
            # Without a scope it is a login, which must not succeed for a name typed wrong.
            foreign = bool(asked.scopes)
            identity = await self._by_password(credentials, client, foreign_allowed=foreign)
        refresh = None
        if asked.offline and identity.name is not None:
            stamp = self._stamp(identity.name)
            refresh = issuer.issue_refresh(identity.name, stamp) if stamp is not None else None
        return self._issue(issuer, identity, asked, refresh)

    def refresh(self, refresh_token: str, asked: GrantRequest) -> Grant:
        """Issue a token for a refresh token, which goes on being good."""
        issuer = self._issuer()
        _check_number(asked)
        if self._htpasswd is None:
            raise Unauthorized
        identity = Identity(issuer.refresh_user(refresh_token, self._htpasswd.stamp))
        return self._issue(issuer, identity, asked, refresh_token)

    def challenge(self, origin: str, scope: str | None = None, error: str | None = None) -> str:
        """Return the WWW-Authenticate that tells a client how to log in (RFC 9110, 11.6.1)."""
        if self.policy.challenge_scheme is not Scheme.BEARER:
            return f'Basic realm="{REALM}"'
        realm = self._tokens.realm or f"{origin}/token"
        parts = {"realm": realm, "service": self._tokens.service}
        if scope:
            parts["scope"] = scope
        if error:
            parts["error"] = error
        return "Bearer " + ",".join(f'{name}="{_quoted(value)}"' for name, value in parts.items())

    def _may_be_foreign(self, access: Access) -> bool:
        """Tell whether the credentials of a request may be for another registry.

        At the endpoint to push ``GET /v2/`` is what a client logs in by, so there they may not.
        """
        if access is Access.BASE:
            return self.policy.endpoint is not Role.PUSH
        return access is not Access.PUSH and access is not Access.DELETE

    def _by_token(self, token: str) -> Identity:
        """Return what a token grants; one of this registry's users ends with the password."""
        identity = self._tokens.verify(token)
        if identity.name is not None and isinstance(self._tokens, TokenIssuer):
            stamp = self._stamp(identity.name)
            if not self._tokens.is_current(identity, stamp):
                raise TokenInvalid("the user of the token was removed or changed; log in again")
        return identity

    def _stamp(self, user: str) -> str | None:
        return self._htpasswd.stamp(user) if self._htpasswd is not None else None

    async def _by_password(
        self, credentials: Basic, client: str, *, foreign_allowed: bool
    ) -> Identity:
        users, user = self._htpasswd, credentials.user
        if foreign_allowed and self.policy.anonymous_pull and not (users and users.knows(user)):
            # Before any check: who may pull as nobody need not wait for bcrypt.
            return ANONYMOUS
        if users is not None and await users.verify(user, credentials.password, client):
            return Identity(user)
        raise Unauthorized("user name or password is wrong")

    def _issuer(self) -> TokenIssuer:
        """Return the issuer of tokens, if that is this registry."""
        if not isinstance(self._tokens, TokenIssuer):
            raise Unauthorized(f"this registry issues no tokens; get one from {self._tokens.realm}")
        return self._tokens

    def _issue(
        self, issuer: TokenIssuer, identity: Identity, asked: GrantRequest, refresh: str | None
    ) -> Grant:
        parsed = filter(None, map(parse_scope, asked.scopes))
        allowed = tuple(self._allowed(identity, one) for one in parsed)
        user = identity.name
        stamp = None if user is None else self._stamp(user)
        narrow = user is not None and all(one.reference is not None for one in allowed)
        seconds = asked.seconds if narrow and allowed else None
        return Grant(issuer.issue(user, allowed, stamp, seconds), refresh, allowed, user)

    def _allowed(self, identity: Identity, scope: Scope) -> Scope:
        """Return the part of a scope that somebody may have."""
        actions: set[str] = set()
        if self.policy.may_pull(identity.name, scope.repository):
            actions |= scope.actions & {"pull", "*"}
        for action in scope.actions & {"push", "delete"}:
            if scope.repository is not None and self.policy.may_write(
                identity.name, action, scope.repository
            ):
                actions.add(action)
        return replace(scope, actions=frozenset(actions))


def _check_number(asked: GrantRequest) -> None:
    number = len(asked.scopes)
    if number > MOST_SCOPES:
        raise ScopeInvalid(
            f"a token is for {MOST_SCOPES} scopes at most, and {number} are asked for; get several"
        )


def _quoted(value: str) -> str:
    return "".join(char for char in value if char.isprintable() and char not in '"\\')
