# SPDX-License-Identifier: Apache-2.0
"""Docker's token protocol: JSON Web Tokens that say what their holder may do.

Source: distribution's "Token Authentication Specification" and "Token Scope Documentation". One
issuer and one key, so the signature is an HMAC (HS256); a token of another registry, another
algorithm or none at all does not verify.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

from buildset_registry.auth.access import Identity
from buildset_registry.errors import NameInvalid, Unauthorized
from buildset_registry.oci.names import RepositoryName

_ALGORITHM = "HS256"
_REMEMBERED = 4096
_ACTIONS = frozenset({"pull", "push", "delete"})
_CATALOG = "registry:catalog:*"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a client asks for: actions on a repository, or with None on the list of them."""

    repository: RepositoryName | None
    actions: frozenset[str]
    text: str
    """The resource as the client wrote it; a token repeats it."""


def parse_scope(text: str) -> Scope | None:
    """Parse ``repository:<name>:<actions>`` or ``registry:catalog:*``; None for anything else."""
    if text == _CATALOG:
        return Scope(None, frozenset({"*"}), "catalog")
    kind, _separator, rest = text.partition(":")
    resource, _separator, actions = rest.rpartition(":")
    if kind.partition("(")[0] != "repository":
        return None
    try:
        name = RepositoryName.resolve(resource)
    except NameInvalid:
        return None
    wanted = frozenset(actions.split(","))
    return Scope(name, _ACTIONS if "*" in wanted else wanted & _ACTIONS, resource)


@dataclass(frozen=True, slots=True)
class Token:
    """A signed token, its life in seconds, and when that began (RFC 3339)."""

    token: str
    expires_in: int
    issued_at: str


class Tokens:
    """Issue and verify the tokens of one registry."""

    def __init__(
        self, key: bytes, service: str, seconds: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.service = service
        self._key = key
        self._seconds = seconds
        self._clock = clock
        self._verified: OrderedDict[str, tuple[float, Identity]] = OrderedDict()

    def issue(self, user: str | None, scopes: Iterable[Scope]) -> Token:
        """Sign a token that grants ``scopes``."""
        import jwt

        now = int(self._clock())
        claims = {
            "iss": self.service,
            "aud": self.service,
            "sub": user or "",
            "iat": now,
            "nbf": now - 10,
            "exp": now + self._seconds,
            "access": [
                {
                    "type": "registry" if scope.repository is None else "repository",
                    "name": scope.text,
                    "actions": sorted(scope.actions),
                }
                for scope in scopes
            ],
        }
        issued = datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Token(jwt.encode(claims, self._key, _ALGORITHM), self._seconds, issued)

    def verify(self, token: str) -> Identity:
        """Return what a token grants; ``Unauthorized`` if it is not ours or not valid now."""
        known = self._verified.get(token)
        if known is not None and known[0] > self._clock():
            return known[1]
        claims = self._claims(token)
        identity = _identity(claims)
        self._verified[token] = (_number(claims, "exp"), identity)
        while len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)
        return identity

    def _claims(self, token: str) -> dict[str, object]:
        import jwt

        try:
            claims: dict[str, object] = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                audience=self.service,
                issuer=self.service,
                options={
                    "require": ["exp", "nbf", "sub"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidTokenError:
            raise Unauthorized("the token is not valid; log in again") from None
        now = self._clock()
        if not _number(claims, "nbf") <= now < _number(claims, "exp"):
            raise Unauthorized("the token has expired; log in again")
        return claims


def _number(claims: dict[str, object], key: str) -> float:
    value = claims[key]
    return float(value) if isinstance(value, int | float) else 0.0


def _identity(claims: dict[str, object]) -> Identity:
    scopes: dict[RepositoryName, frozenset[str]] = {}
    catalog = False
    access = claims.get("access")
    for entry in access if isinstance(access, list) else []:
        if entry["type"] == "registry":
            catalog = True
            continue
        name = RepositoryName.resolve(entry["name"])
        scopes[name] = scopes.get(name, frozenset()) | frozenset(entry["actions"])
    return Identity(str(claims["sub"]) or None, scopes, catalog)
