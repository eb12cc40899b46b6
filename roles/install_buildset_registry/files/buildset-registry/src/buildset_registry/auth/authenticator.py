# SPDX-License-Identifier: Apache-2.0
"""From an Authorization header to who asks, and from that to a token."""

from __future__ import annotations

from collections.abc import Iterable

from buildset_registry.auth.access import ANONYMOUS, Access, Identity, Policy, Scheme
from buildset_registry.auth.credentials import Basic, parse_authorization
from buildset_registry.auth.htpasswd import Htpasswd
from buildset_registry.auth.tokens import Scope, Token, Tokens, parse_scope
from buildset_registry.errors import Unauthorized

REALM = "buildset-registry"


class Authenticator:
    """Knows the users and the tokens of one endpoint."""

    def __init__(self, htpasswd: Htpasswd | None, tokens: Tokens, policy: Policy) -> None:
        self._htpasswd = htpasswd
        self._tokens = tokens
        self._policy = policy

    async def authenticate(self, header: str | None, access: Access) -> Identity:
        """Return who asks; ``Unauthorized`` for wrong credentials.

        docker sends a mirror its Docker Hub credentials (moby#30880, moby#42022): a user that this
        registry does not know pulls as nobody, where anonymous pulling is on.
        """
        credentials = parse_authorization(header)
        if credentials is None:
            return ANONYMOUS
        if not isinstance(credentials, Basic):
            return self._tokens.verify(credentials.token)
        reading = access not in (Access.PUSH, Access.DELETE)
        return await self._by_password(credentials, foreign_allowed=reading)

    async def grant(self, header: str | None, scopes: Iterable[str]) -> Token:
        """Issue a token for those of the scopes that the caller may have."""
        credentials = parse_authorization(header)
        identity = ANONYMOUS
        if credentials is not None:
            if not isinstance(credentials, Basic):
                raise Unauthorized("a token is had by user name and password")
            identity = await self._by_password(credentials, foreign_allowed=True)
        wanted = filter(None, map(parse_scope, scopes))
        return self._tokens.issue(identity.name, [self._allowed(identity, one) for one in wanted])

    def challenge(self, origin: str, scope: str | None = None, error: str | None = None) -> str:
        """Return the WWW-Authenticate that tells a client how to log in (RFC 9110, 11.6.1)."""
        if self._policy.challenge_scheme is not Scheme.BEARER:
            return f'Basic realm="{REALM}"'
        parts = {"realm": f"{origin}/token", "service": self._tokens.service}
        if scope:
            parts["scope"] = scope
        if error:
            parts["error"] = error
        return "Bearer " + ",".join(f'{name}="{_quoted(value)}"' for name, value in parts.items())

    async def _by_password(self, credentials: Basic, *, foreign_allowed: bool) -> Identity:
        users, user = self._htpasswd, credentials.user
        if users is not None and await users.verify(user, credentials.password):
            return Identity(user)
        known = users is not None and users.knows(user)
        if foreign_allowed and not known and self._policy.anonymous_pull:
            return ANONYMOUS
        raise Unauthorized("user name or password is wrong")

    def _allowed(self, identity: Identity, scope: Scope) -> Scope:
        actions: set[str] = set()
        if self._policy.may_pull(identity.name, scope.repository):
            actions |= scope.actions & {"pull", "*"}
        if self._policy.may_write(identity.name):
            actions |= scope.actions & {"push", "delete"}
        return Scope(scope.repository, frozenset(actions), scope.text)


def _quoted(value: str) -> str:
    return "".join(char for char in value if char.isprintable() and char not in '"\\')
