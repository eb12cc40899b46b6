# SPDX-License-Identifier: Apache-2.0
"""Docker's token protocol: JSON Web Tokens that say what their holder may do.

Sources: distribution's "Token Authentication Specification", "Token Scope Documentation" and
"OAuth2 Token Authentication". One issuer and one key, so the signature is an HMAC (HS256); a token
of another registry, another algorithm or none at all does not verify.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache

from buildset_registry.auth.access import Identity
from buildset_registry.auth.claims import VerifiedTokens, parse_image
from buildset_registry.auth.rules import ACTIONS, EVERY
from buildset_registry.errors import NameInvalid, TokenInvalid, Unauthorized
from buildset_registry.oci.names import Reference, RepositoryName, Tag

_ALGORITHM = "HS256"
_CATALOG = "registry:catalog:*"
_IMAGE = "image"
#: Repositories and images that one token is for: a request may have all of them looked up.
MOST_SCOPES = 200
#: Seconds that a token for single images may live: longer than a job of a CI system runs.
LONGEST = 24 * 3600
#: Marks of users that asked a short while ago: one is looked at with each request.
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Scope:
    """A scope that a client asks for: actions on a repository, or with None on their list."""

    repository: RepositoryName | None
    actions: frozenset[str]
    text: str
    """The resource as the client wrote it; a token repeats it."""

    reference: Reference | None = None
    """The one tag or digest that it is for; None where it is for the whole repository."""

    @property
    def kind(self) -> str:
        """The type of the resource."""
        if self.repository is None:
            return "registry"
        return "repository" if self.reference is None else _IMAGE

    def __str__(self) -> str:
        return f"{self.kind}:{self.text}:{','.join(sorted(self.actions))}"


def parse_scope(text: str) -> Scope | None:
    """Parse ``repository:<name>:<actions>``, ``registry:catalog:*`` or, for one image,
    ``image:<name>:<tag>:pull,push`` or ``image:<name>@<digest>:pull``; None for anything else.
    """
    if text == _CATALOG:
        return Scope(None, frozenset({EVERY}), "catalog")
    kind, _separator, rest = text.partition(":")
    resource, _separator, actions = rest.rpartition(":")
    if kind == _IMAGE:
        image = parse_image(resource)
        return None if image is None else _image_scope(image, actions, resource)
    if kind.partition("(")[0] != "repository":
        return None
    try:
        name = RepositoryName.scoped(resource)
    except NameInvalid:
        return None
    requested = frozenset(actions.split(","))
    return Scope(name, ACTIONS if EVERY in requested else requested & ACTIONS, resource)


def _image_scope(image: tuple[RepositoryName, Reference], actions: str, text: str) -> Scope:
    """Return a scope for one image; what is pushed gets a tag."""
    name, reference = image
    possible = frozenset({"pull", "push"} if isinstance(reference, Tag) else {"pull"})
    return Scope(name, possible.intersection(actions.split(",")), text, reference)


@dataclass(frozen=True, slots=True)
class Token:
    """A signed token, its life in seconds, and when that began (RFC 3339)."""

    token: str
    expires_in: int
    issued_at: str


@dataclass(frozen=True, slots=True)
class Signing:
    """The terms of tokens: the key that signs them, their service, how long they live."""

    key: bytes
    service: str
    seconds: int
    refresh_seconds: int = 0
    """How long a refresh token lives; 0: none are issued."""


class TokenIssuer:
    """Issues and verifies the tokens of this registry."""

    realm = None

    def __init__(self, signing: Signing, clock: Callable[[], float] = time.time) -> None:
        self._signing = signing
        self.service = signing.service
        # A refresh token is for another audience, so that it opens nothing by itself.
        self._refresh_audience = f"{self.service} refresh"
        self._clock = clock
        self._verified = VerifiedTokens(clock)
        self._mark = lru_cache(_REMEMBERED)(self._new_mark)

    def issue(
        self,
        user: str | None,
        scopes: Iterable[Scope],
        stamp: str | None = None,
        seconds: int | None = None,
    ) -> Token:
        """Sign a token that grants ``scopes``, to a user while the password's ``stamp`` stays.

        It lives for so many ``seconds`` where they are given, up to ``LONGEST``.
        """
        access = [
            {"type": scope.kind, "name": scope.text, "actions": sorted(scope.actions)}
            for scope in scopes
        ]
        seconds = self._signing.seconds if seconds is None else min(seconds, LONGEST)
        mark = {"mark": self._mark(user, stamp)} if user and stamp is not None else {}
        token, now = self._sign(self.service, seconds, sub=user or "", access=access, **mark)
        issued = datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Token(token, seconds, issued)

    def verify(self, token: str) -> Identity:
        """Return what a token grants; ``TokenInvalid`` for one that is not good here and now."""
        return self._verified.find(token) or self._verified.add(
            token, self._claims(token, self.service)
        )

    def is_current(self, identity: Identity, stamp: str | None) -> bool:
        """Tell whether the password of a token's user is still the one it was issued for."""
        user = identity.name
        return user is not None and stamp is not None and identity.mark == self._mark(user, stamp)

    def issue_refresh(self, user: str, stamp: str) -> str | None:
        """Sign a token that gets others for a user, as long as the password's ``stamp`` stays."""
        seconds = self._signing.refresh_seconds
        if not seconds:
            return None
        mark = self._mark(user, stamp)
        return self._sign(self._refresh_audience, seconds, sub=user, mark=mark)[0]

    def refresh_user(self, token: str, stamp_of: Callable[[str], str | None]) -> str:
        """Return whose refresh token it is; ``Unauthorized`` once the password is another one."""
        claims = self._claims(token, self._refresh_audience)
        user = str(claims["sub"])
        stamp = stamp_of(user)
        expired = self._clock() >= int(str(claims["exp"]))
        if expired or stamp is None or claims.get("mark") != self._mark(user, stamp):
            raise Unauthorized("the refresh token has expired; log in again")
        return user

    def _new_mark(self, user: str, stamp: str) -> str:
        """Return what stands for a password inside a token, where everybody can read it."""
        message = f"{user}:{stamp}".encode()
        return hmac.new(self._signing.key, message, hashlib.sha256).hexdigest()

    def _sign(self, audience: str, seconds: int, **claims: object) -> tuple[str, int]:
        import jwt

        now = int(self._clock())
        times = {"iat": now, "nbf": now - 10, "exp": now + seconds}
        whole = {"iss": self.service, "aud": audience, **times, **claims}
        return jwt.encode(whole, self._signing.key, _ALGORITHM), now

    def _claims(self, token: str, audience: str) -> dict[str, object]:
        """Return the claims of a token that this registry signed for an audience, valid or not."""
        import jwt

        try:
            claims: dict[str, object] = jwt.decode(
                token,
                self._signing.key,
                algorithms=[_ALGORITHM],
                audience=audience,
                issuer=self.service,
                options={
                    "require": ["exp", "nbf", "sub"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.InvalidTokenError, RecursionError):
            raise TokenInvalid("the token is not valid; log in again") from None
        return claims
