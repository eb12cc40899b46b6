# SPDX-License-Identifier: Apache-2.0
"""Access to one endpoint: a pure policy of who may do what there, no I/O.

Clients learn from ``GET /v2/`` alone that credentials are wanted, and how: an endpoint that needs
them for anything answers it with a challenge, of the scheme that ``challenge_scheme`` names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from buildset_registry.auth.rules import AccessRules
from buildset_registry.errors import Denied
from buildset_registry.oci.hosts import RegistryHost
from buildset_registry.oci.names import Reference, RepositoryName

#: Addresses whose networks are remembered: each request asks for that of its client.
_REMEMBERED = 1024


class Access(Enum):
    """The access that a request needs; the first three values are actions of a token's scope."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    BASE = "base"
    """``GET /v2/``."""
    CATALOG = "catalog"


class Role(Enum):
    """The use of an endpoint."""

    PULL = "pull"
    PUSH = "push"
    SINGLE = "single"


class Intent(Enum):
    """The mind of a client that asks what is here, as far as its credentials tell."""

    PULL = "pull"
    UNKNOWN = "unknown"
    """It may push, and has not said that it wants to."""

    PUSH = "push"


class Scheme(Enum):
    """The way in which an endpoint asks for credentials."""

    NONE = "none"
    BASIC = "basic"
    BEARER = "bearer"


class Verdict(Enum):
    """The answer of the policy."""

    ALLOW = "allow"
    LOGIN = "login"
    """401: with other credentials it may be possible."""
    DENY = "deny"
    """403: never at this endpoint, or not by this user."""


Scopes = Mapping[RepositoryName, frozenset[str]]
#: The tags and digests of single images, by repository.
Images = Mapping[RepositoryName, frozenset[Reference]]


@dataclass(frozen=True, slots=True)
class Identity:
    """The client of a request: nobody, a user known by password, or the holder of a token.

    ``scopes`` holds what a token grants; None means that the rules for the user count.
    """

    name: str | None = None
    scopes: Scopes | None = field(default=None, compare=False)
    catalog: bool = False
    """Whether a token allows listing the repositories."""

    mark: str = field(default="", compare=False, repr=False)
    """What a token of this registry has of its user's password."""

    images: Images = field(default_factory=dict, compare=False)
    """The images that a token allows to pull where it does not allow their whole repository."""

    pushes: Images = field(default_factory=dict, compare=False)
    """Those that it allows to push."""


ANONYMOUS = Identity()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The policy of one endpoint."""

    endpoint: Role
    anonymous_pull: bool = True
    private_hosts: frozenset[RegistryHost] = frozenset()
    """Registries whose content needs a login: our credentials there see more than the public."""

    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Where clients may come from; empty means anywhere."""

    rules: AccessRules = field(default_factory=AccessRules)
    """The rules about users and repositories."""

    external: bool = False
    """Whether another server issues the tokens; then the users that they name are not ours."""

    @property
    def challenge_scheme(self) -> Scheme:
        """Return how the endpoint asks for credentials at ``GET /v2/``.

        Where some requests need a login and others do not, only the token protocol lets clients
        do both: they fetch an anonymous token first, and a better one when told to.
        """
        login = self.endpoint is Role.PUSH or not self.anonymous_pull
        if login and not self.external:
            return Scheme.BASIC
        if login or self.endpoint is Role.SINGLE or self.private_hosts:
            return Scheme.BEARER
        return Scheme.NONE

    def network_allowed(self, address: str) -> bool:
        """Tell whether a client's address is in one of the allowed networks."""
        return not self.allowed_networks or is_within(address, self.allowed_networks)

    def check_network(self, address: str) -> None:
        """Raise ``Denied`` for a client that is in none of the allowed networks."""
        if not self.network_allowed(address):
            raise Denied(f"clients from {address} may not use this registry (allowed_networks)")

    def may_pull(self, user: str | None, repository: RepositoryName | None) -> bool:
        """Tell whether somebody may read a repository, or with None all of them and their list."""
        if repository is None:
            public = self.anonymous_pull and not self.private_hosts
            return public or (user is not None and self.rules.allow_everything(user))
        if self.anonymous_pull and not (
            self.private_hosts and repository.host in self.private_hosts
        ):
            return True
        return user is not None and self.rules.allow(user, "pull", repository)

    def may_write(self, user: str | None, action: str, repository: RepositoryName) -> bool:
        """Tell whether somebody may push to a repository, or delete in it."""
        if user is None or self.endpoint is Role.PULL:
            return False
        return self.rules.allow(user, action, repository)

    def intent(self, identity: Identity, repository: RepositoryName) -> Intent:
        """Return what somebody who asks for content here has in mind.

        Where one port serves everything, a token to push tells. A password does not, and nor does
        a token to pull of a user who may push: oras asks with one before it pushes.
        """
        if self.endpoint is Role.PULL:
            return Intent.PULL
        if self.decide(identity, Access.PUSH, repository) is Verdict.ALLOW:
            told = self.endpoint is Role.PUSH or identity.scopes is not None
            return Intent.PUSH if told else Intent.UNKNOWN
        if self.images(identity, repository, Access.PUSH):
            return Intent.PUSH
        if repository in identity.images or self.external:
            return Intent.PULL
        writes = self.may_write(identity.name, "push", repository)
        return Intent.UNKNOWN if writes else Intent.PULL

    def may_mount(self, identity: Identity, source: RepositoryName | None) -> bool:
        """Tell whether somebody may link blobs of a repository, or with None of any.

        A mount shows the content: what cannot be pulled cannot be mounted. A token is for the
        repositories that it names, never for all.
        """
        if self.may_pull(None, source):
            return True
        if source is None:
            whole = identity.scopes is None and not self.external
            return whole and self.may_pull(identity.name, None)
        return self.decide(identity, Access.PULL, source) is Verdict.ALLOW

    def decide(
        self, identity: Identity, access: Access, repository: RepositoryName | None = None
    ) -> Verdict:
        """Return whether a request may go on."""
        if self.endpoint is Role.PULL and access in (Access.PUSH, Access.DELETE):
            return Verdict.DENY
        if identity.scopes is not None:
            holds = self._still(identity, access, repository)
            granted = holds and _granted(identity, access, repository)
            return Verdict.ALLOW if granted else Verdict.LOGIN
        if self._may(identity.name, access, repository):
            return Verdict.ALLOW
        return Verdict.LOGIN if identity.name is None else Verdict.DENY

    def images(
        self, identity: Identity, repository: RepositoryName, access: Access = Access.PULL
    ) -> frozenset[Reference]:
        """Return the images of a repository that a token's holder may pull or push, if not all.

        Such a token is for nothing else: not for lists, not for other images.
        """
        granted = identity.pushes if access is Access.PUSH else identity.images
        named = granted.get(repository, frozenset())
        return named if named and self._still(identity, access, repository) else frozenset()

    def lacks(
        self, identity: Identity, access: Access, repository: RepositoryName | None = None
    ) -> str:
        """Return the words for what ``decide`` does not allow; none for whom a login may help."""
        user = identity.name
        if user is None:
            return ""
        what = "list the repositories"
        if repository is not None:
            what = f"{access.value} {repository}"
        if identity.scopes is None:
            return f"{user} may not {what} (auth.rules)"
        if not self.external and not self._may(user, access, repository):
            return f"{user} may not {what}, by no token (auth.rules)"
        return f"this token is not one to {what}; get one with the scope that is asked for"

    def _still(self, identity: Identity, access: Access, repository: RepositoryName | None) -> bool:
        """Tell whether the holder of a token may do now what it was issued for."""
        if self.external or access is Access.BASE:
            return True
        return self._may(identity.name, access, repository)

    def _may(self, user: str | None, access: Access, repository: RepositoryName | None) -> bool:
        """Tell whether nobody, or a user known by password, may do something."""
        if access is Access.PULL or access is Access.CATALOG:
            return self.may_pull(user, repository)
        if access is Access.BASE:
            return user is not None or self.challenge_scheme is Scheme.NONE
        return repository is not None and self.may_write(user, access.value, repository)


def _granted(identity: Identity, access: Access, repository: RepositoryName | None) -> bool:
    """Tell whether a token covers a request; any valid token may ask ``GET /v2/``."""
    if access is Access.BASE:
        return True
    if access is Access.CATALOG:
        return identity.catalog
    if repository is None or identity.scopes is None:
        return False
    return access.value in identity.scopes.get(repository, frozenset())


def is_within(address: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Tell whether a client's address is in one of some networks."""
    try:
        client = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(client, IPv6Address) and client.ipv4_mapped:
        client = client.ipv4_mapped
    return any(client in network for network in networks)


@lru_cache(_REMEMBERED)
def client_network(address: str) -> str:
    """Return what a client is known by: an address, of IPv6 the 64 bits that a host has for itself.

    RFC 4291, section 2.5.1. What is no address is returned as it is.
    """
    if ":" not in address:
        return address
    try:
        known = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(known.ipv4_mapped or ip_network((known, 64), strict=False))
