# SPDX-License-Identifier: Apache-2.0
"""The registries that may be asked, and the hosts that serve a repository of theirs; pure.

A host knows the requests that it takes, and the refusals that its answers mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from buildset_registry.errors import RegistryError, UpstreamBusy, UpstreamFailed
from buildset_registry.oci.hosts import DOCKER_HUB_NAMES, RegistryHost
from buildset_registry.oci.names import RepositoryName
from buildset_registry.protocol.errors import UpstreamError
from buildset_registry.protocol.tokens import basic
from buildset_registry.protocol.urls import Origin, origin, server
from buildset_registry.upstream.reach import Reach

#: The one host that serves Docker Hub's API, by whichever of its names it is configured.
_DOCKER_HUB_API = "registry-1.docker.io"
#: Seconds to wait before the second and the third try.
_PAUSES = (0.2, 0.5)
#: Seconds, or a date (RFC 9110, 10.2.3); nothing else is passed on.
_RETRY_AFTER = re.compile(r"[A-Za-z0-9 ,:-]{1,40}")
#: What a repository has by the specification's API.
_KINDS = frozenset({"manifests", "blobs", "referrers"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A registry to pull through, as it is configured."""

    name: RegistryHost
    url: str
    mirror: str | None = None
    """A URL that is asked before ``url``."""

    ca: Path | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    """A token that is sent as it is, in place of a login."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One request, redirects included, and how its TLS is verified."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    ca: Path | None = None
    """Certificates that are trusted besides the system's..."""

    ca_origin: Origin | None = None
    """... but instead of them at this one server."""

    login: Callable[[str], str | None] = lambda _url: None
    """The Authorization for the URL of another server that the request is redirected to."""

    reach: Reach = Reach.LOOPBACK
    """How far in its server may be."""


@dataclass(frozen=True, slots=True)
class RemoteAccount:
    """The asker for a repository at a registry: what a login is good for."""

    url: str
    """The repository's URL."""

    credentials: str | None = field(default=None, repr=False)
    """The header with credentials; None for what everybody may see."""

    @classmethod
    def anonymous(cls, url: str) -> RemoteAccount | None:
        """Return the account for a URL at another registry; None where it is none's, but storage's.

        Nobody's credentials are for a server that an upstream chose.
        """
        parts = urlsplit(url)
        repository = _repository_of(parts.path)
        return cls(f"{parts.scheme}://{parts.netloc}{repository}") if repository else None

    @property
    def token(self) -> str | None:
        """The header with a token, which needs no login and for which there is no other."""
        given = self.credentials
        return given if given is not None and given.startswith("Bearer ") else None

    @property
    def scope(self) -> str:
        """The scope that a token is asked for (distribution's token scopes)."""
        return f"repository:{self.url.partition('/v2/')[2]}:pull"


@dataclass(frozen=True, slots=True)
class RepositoryRequest:
    """A request below a repository's URL, whichever host serves it, and its refusals."""

    path: str
    missing: type[RegistryError]
    """The refusal where there is no such thing."""

    hidden: type[RegistryError]
    """The refusal where the upstream does not show it to us."""

    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"
    optional: bool = False
    """Whether a registry may be without this part of the API: any refusal means that it is."""

    def is_missing(self, status: int) -> bool:
        """Tell whether a status says that there is no such thing.

        Of what is not in their API, registries and the servers in front of them say 400, 405, 406
        (Artifactory), 415, 501 and more; what passes (408, 425, 429) says nothing of it.
        """
        if not self.optional:
            return status == 404
        return status == 501 or (400 <= status < 500 and status not in (408, 425, 429))


@dataclass(frozen=True, slots=True)
class Host:
    """A server of one repository: the upstream itself, or a mirror of it."""

    upstream: Upstream
    url: str
    """The repository's URL there."""

    upstream_url: str
    """The repository's URL at the upstream itself."""

    @property
    def account(self) -> RemoteAccount:
        """Who asks here."""
        return RemoteAccount(self.url, self.credentials)

    @property
    def is_mirror(self) -> bool:
        """Whether it is not the upstream itself."""
        return self.url != self.upstream_url

    @property
    def pauses(self) -> tuple[float, ...]:
        """The seconds before each new try; a mirror gets one try, the upstream is the second."""
        return () if self.is_mirror else _PAUSES

    @property
    def credentials(self) -> str | None:
        """The header with the upstream's credentials; a mirror elsewhere never gets them."""
        username, password = self.upstream.username, self.upstream.password
        if self.upstream.token is not None:
            return None if self.is_mirror else f"Bearer {self.upstream.token}"
        if username is None or password is None or origin(self.url) != origin(self.upstream_url):
            return None
        return basic(username, password)

    def request(self, method: str, url: str, headers: Mapping[str, str]) -> UpstreamRequest:
        """Return a request that trusts what the upstream's configuration says."""
        return UpstreamRequest(method, url, headers, self.upstream.ca, origin(self.upstream_url))

    def account_at(self, url: str) -> RemoteAccount | None:
        """Return who asks at the URL that answered: here, or where a redirect led to."""
        return self.account if origin(url) == origin(self.url) else RemoteAccount.anonymous(url)

    def failed(self, error: UpstreamError) -> UpstreamFailed:
        """Return the refusal that names the upstream, the host that was asked, and the reason."""
        return UpstreamFailed(
            f"upstream {self.upstream.name} ({self._server}): {error.reason}",
            headers=_passed_on(error.retry_after),
        )

    def busy(self, headers: Mapping[str, str]) -> UpstreamBusy:
        """Return the refusal that passes a rate limit on."""
        advice = "" if self.credentials else "; give it credentials, or a mirror"
        return UpstreamBusy(
            f"upstream {self.upstream.name} limits the rate of requests{advice}",
            headers=_passed_on(headers.get("Retry-After")),
        )

    def lacks(self, request: RepositoryRequest, told: str = "") -> RegistryError:
        """Return the refusal for what the upstream does not have; ``told`` are its own words."""
        kind, _separator, reference = request.path.partition("/")
        return request.missing(
            f"upstream {self.upstream.name} has no {kind[:-1]} {reference} in {self._repository}",
            detail=told or None,
        )

    def denies(self, request: RepositoryRequest, account: RemoteAccount) -> RegistryError:
        """Return the refusal for what a registry does not show; Docker Hub says it of what
        it does not have, too."""
        if account.url != self.url:
            return request.hidden(
                f"upstream {self.upstream.name} redirects to {server(account.url)}, "
                f"which denies access to {account.url.partition('/v2/')[2]} without a login; "
                "configure that registry and name the image after it"
            )
        advice = "check its credentials" if self.credentials else "give it credentials"
        return request.hidden(
            f"upstream {self.upstream.name} denies access to {self._repository}; {advice}"
        )

    @property
    def _server(self) -> str:
        server = "/".join(self.url.split("/", 3)[:3])
        return f"mirror {server}" if self.is_mirror else server

    @property
    def _repository(self) -> str:
        return self.url.partition("/v2/")[2]


class Upstreams:
    """The registries that may be asked; no other ever is."""

    def __init__(self, upstreams: Iterable[Upstream]) -> None:
        self._upstreams = {upstream.name: upstream for upstream in upstreams}

    def find(self, name: RepositoryName) -> Upstream | None:
        """Return the upstream that the repository belongs to, if it is configured."""
        return self._upstreams.get(name.host)

    def hosts(self, name: RepositoryName) -> tuple[Host, ...]:
        """Return the hosts of a repository in the order to ask them, the upstream itself last."""
        upstream = self.find(name)
        if upstream is None:
            return ()
        bases = filter(None, (upstream.mirror, upstream.url))
        urls = [f"{_api(base)}/{name.remote}" for base in bases]
        hosts = [Host(upstream, url, urls[-1]) for url in urls]
        return tuple(hosts)


def _repository_of(path: str) -> str:
    """Return the beginning of a path of the specification's API; empty for any other one.

    An upstream may redirect there, as lscr.io does to ghcr.io. It chooses how long the path is.
    """
    above, _slash, reference = path.rpartition("/")
    repository, _slash, kind = above.rpartition("/")
    name = repository.partition("/v2/")[2]
    return repository if name and reference and kind in _KINDS else ""


def _api(base: str) -> str:
    """Return the URL below which repositories are; credentials in it are left out.

    ``/v2`` goes after the path of a configured URL, unless the URL has it already: Harbor's proxy
    projects are ``https://harbor.example.com/v2/PROJECT``.
    """
    parts = urlsplit(base)
    host = parts.netloc.rpartition("@")[2].lower()
    if host in DOCKER_HUB_NAMES:
        host = _DOCKER_HUB_API
    path = parts.path.rstrip("/")
    if "v2" not in path.split("/"):
        path += "/v2"
    return f"{parts.scheme}://{host}{path}"


def _passed_on(retry_after: str | None) -> dict[str, str]:
    if retry_after is None or not _RETRY_AFTER.fullmatch(retry_after):
        return {}
    return {"Retry-After": retry_after}
