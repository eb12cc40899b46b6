# SPDX-License-Identifier: Apache-2.0
"""Claims of verified tokens: whose a token is, and what it grants.

Source: distribution's "Docker Registry v2 Bearer token specification", claim ``access``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Protocol

from buildset_registry.auth.access import Identity
from buildset_registry.auth.rules import ACTIONS, EVERY
from buildset_registry.errors import NameInvalid, RegistryError, TokenInvalid
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Reference, RepositoryName, Tag

#: Tokens that are remembered, and the characters of all of them: of many scopes one has thousands,
#: and what is made of it takes several times as much memory.
_REMEMBERED = 4096
_MOST = 4 * 1024 * 1024

Claims = Mapping[str, object]


class TokenVerifier(Protocol):
    """A verifier of bearer tokens."""

    @property
    def service(self) -> str:
        """The name of this registry, as its tokens' audience."""

    @property
    def realm(self) -> str | None:
        """The URL at which tokens are issued; None means this registry itself."""

    def verify(self, token: str) -> Identity:
        """Return what a token grants; ``TokenInvalid`` for one that is not good here and now."""


class VerifiedTokens:
    """Tokens that were verified before, until they expire."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._remembered: OrderedDict[str, tuple[float, Identity]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._remembered)

    def find(self, token: str) -> Identity | None:
        """Return what a token grants that was verified before and is still valid."""
        remembered = self._remembered.get(token)
        return remembered[1] if remembered is not None and remembered[0] > self._clock() else None

    def add(self, token: str, claims: Claims, leeway: float = 0) -> Identity:
        """Remember a token whose signature, issuer and audience are good, if it is valid now."""
        now = self._clock()
        begin, end = _number(claims.get("nbf", 0)), _number(claims.get("exp"))
        if not begin - leeway <= now < end + leeway:
            raise TokenInvalid("the token has expired or is not yet valid; log in again")
        identity = _identity(claims)
        if self._remembered.pop(token, None) is None:
            self._size += len(token)
        self._remembered[token] = (end + leeway, identity)
        while len(self._remembered) > _REMEMBERED or self._size > _MOST:
            oldest, _known = self._remembered.popitem(last=False)
            self._size -= len(oldest)
        return identity


def parse_image(resource: str) -> tuple[RepositoryName, Reference] | None:
    """Read ``<name>:<tag>`` or ``<name>@<digest>``; None for what is neither."""
    name, at, digest = resource.partition("@")
    try:
        if at:
            return RepositoryName.scoped(name), Digest.parse(digest)
        name, _separator, tag = resource.rpartition(":")
        return RepositoryName.scoped(name), Tag.parse(tag)
    except RegistryError:
        return None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenInvalid("the token does not say when it expires; log in again")
    return float(value)


def _identity(claims: Claims) -> Identity:
    scopes: dict[RepositoryName, frozenset[str]] = {}
    catalog = False
    access = claims.get("access")
    for entry in access if isinstance(access, list) else []:
        name, actions = _grant(entry)
        if name is not None:
            scopes[name] = scopes.get(name, frozenset()) | actions
        elif EVERY in actions:
            catalog = True
    user = str(claims.get("sub") or "") or None
    listed = access if isinstance(access, list) else []
    images, pushes = _images(listed, "pull"), _images(listed, "push")
    return Identity(user, scopes, catalog, str(claims.get("mark") or ""), images, pushes)


def _images(access: list[object], action: str) -> dict[RepositoryName, frozenset[Reference]]:
    """Return the single images that may be pulled, or pushed."""
    images: dict[RepositoryName, frozenset[Reference]] = {}
    for entry in access:
        if not isinstance(entry, dict) or entry.get("type") != "image":
            continue
        actions = entry.get("actions")
        found = parse_image(str(entry.get("name")))
        if found is not None and isinstance(actions, list) and action in actions:
            name, reference = found
            images[name] = images.get(name, frozenset()) | {reference}
    return images


def _grant(entry: object) -> tuple[RepositoryName | None, frozenset[str]]:
    """Return the repository, or None for the catalog, and the actions; none for what is unknown."""
    nothing = None, frozenset[str]()
    if not isinstance(entry, dict) or not isinstance(entry.get("actions"), list):
        return nothing
    actions = frozenset(action for action in entry["actions"] if isinstance(action, str))
    if (entry.get("type"), entry.get("name")) == ("registry", "catalog"):
        return None, actions
    if entry.get("type") != "repository":
        return nothing
    try:
        name = RepositoryName.scoped(str(entry.get("name")))
    except NameInvalid:
        return nothing
    return name, ACTIONS if EVERY in actions else actions
