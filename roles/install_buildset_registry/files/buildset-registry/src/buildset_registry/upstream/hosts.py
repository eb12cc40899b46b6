# SPDX-License-Identifier: Apache-2.0
"""What is asked of whom: values, and the words for their failures; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from buildset_registry.config import UpstreamSettings
from buildset_registry.errors import Failure, RegistryError, UpstreamBusy, UpstreamFailed
from buildset_registry.oci.names import DOCKER_HUB, RepositoryName
from buildset_registry.upstream.tokens import basic
from buildset_registry.upstream.urls import Origin, origin

#: Seconds to wait before the second and the third try.
_PAUSES = (0.2, 0.5)
#: Seconds, or a date (RFC 9110, 10.2.3); nothing else is passed on.
_RETRY_AFTER = re.compile(r"[A-Za-z0-9 ,:-]{1,40}")


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


@dataclass(frozen=True, slots=True)
class Question:
    """A manifest or a blob of a repository, and the refusal where there is none."""

    path: str
    missing: type[RegistryError]
    hidden: type[RegistryError]
    """The refusal where the upstream does not show it to us."""

    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"


@dataclass(frozen=True, slots=True)
class Host:
    """A place that serves a repository: the upstream itself, or a mirror of it."""

    upstream: UpstreamSettings
    url: str
    """The repository's URL there."""

    home: str
    """The repository's URL at the upstream itself."""

    @property
    def scope(self) -> str:
        """What a token is asked for (distribution's token scopes)."""
        return f"repository:{self.url.partition('/v2/')[2]}:pull"

    @property
    def pauses(self) -> tuple[float, ...]:
        """When to try again; a mirror gets one try, since the upstream is the second."""
        return _PAUSES if self.url == self.home else ()

    @property
    def credentials(self) -> str | None:
        """The header with the upstream's credentials; a mirror elsewhere never gets them."""
        username, password = self.upstream.username, self.upstream.password
        if username is None or password is None or origin(self.url) != origin(self.home):
            return None
        return basic(username, password)

    def request(self, method: str, url: str, headers: Mapping[str, str]) -> UpstreamRequest:
        """Return a request that trusts what the upstream's configuration says."""
        return UpstreamRequest(method, url, headers, self.upstream.ca, origin(self.home))

    def failed(self, failure: Failure) -> UpstreamFailed:
        """Return the refusal that names the upstream, where it is asked, and the reason."""
        return UpstreamFailed(
            f"upstream {self._name} ({self._server}): {failure.reason}",
            headers=_passed_on(failure.retry_after),
        )

    def busy(self, headers: Mapping[str, str]) -> UpstreamBusy:
        """Return the refusal that passes a rate limit on."""
        advice = "" if self.credentials else "; give it credentials, or a mirror"
        return UpstreamBusy(
            f"upstream {self._name} limits the rate of requests{advice}",
            headers=_passed_on(headers.get("Retry-After")),
        )

    def lacks(self, wanted: Question) -> RegistryError:
        """Return the refusal for what the upstream does not have."""
        kind, _separator, reference = wanted.path.partition("/")
        return wanted.missing(
            f"upstream {self._name} has no {kind[:-1]} {reference} in {self._repository}"
        )

    def denies(self, wanted: Question) -> RegistryError:
        """Return the refusal for what the upstream does not show; Docker Hub says it of what
        it does not have, too."""
        advice = "check its credentials" if self.credentials else "give it credentials"
        return wanted.hidden(f"upstream {self._name} denies access to {self._repository}; {advice}")

    @property
    def _name(self) -> str:
        return self.upstream.name

    @property
    def _server(self) -> str:
        mirror = "" if self.url == self.home else "mirror "
        return mirror + "/".join(self.url.split("/", 3)[:3])

    @property
    def _repository(self) -> str:
        return self.url.partition("/v2/")[2]


def hosts_of(rules: UpstreamRules, name: RepositoryName) -> tuple[Host, ...]:
    """Return the places to ask for a repository, in their order, the upstream itself the last."""
    upstream = rules.find(name)
    if upstream is None:
        return ()
    urls = rules.urls(upstream, name)
    return tuple(Host(upstream, url, urls[-1]) for url in urls)


def _passed_on(retry_after: str | None) -> dict[str, str]:
    if retry_after is None or not _RETRY_AFTER.fullmatch(retry_after):
        return {}
    return {"Retry-After": retry_after}


#: Names and web hosts of Docker Hub, and the one host that serves its API.
_DOCKER_HUB_NAMES = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_DOCKER_HUB_API = "registry-1.docker.io"


class UpstreamRules:
    """The registries that may be asked; no other ever is."""

    def __init__(self, upstreams: tuple[UpstreamSettings, ...]) -> None:
        self._upstreams = {_host(upstream.name): upstream for upstream in upstreams}

    def find(self, name: RepositoryName) -> UpstreamSettings | None:
        """Return the upstream that the repository belongs to, if it is configured."""
        return self._upstreams.get(name.host)

    def urls(self, upstream: UpstreamSettings, name: RepositoryName) -> tuple[str, ...]:
        """Return the repository's URLs in the order to try them, the upstream's own the last.

        ``/v2`` goes after the path of a configured URL, unless the URL has it already: Harbor's
        proxy projects are ``https://harbor.example.com/v2/PROJECT``.
        """
        bases = (upstream.mirror, upstream.url) if upstream.mirror else (upstream.url,)
        return tuple(f"{_api(base)}/{name.remote}" for base in bases)


def _host(name: str) -> str:
    host = name.lower()
    return DOCKER_HUB if host in _DOCKER_HUB_NAMES else host


def _api(base: str) -> str:
    """Return the URL below which repositories are; credentials in it are left out."""
    parts = urlsplit(base)
    host = parts.netloc.rpartition("@")[2].lower()
    if host in _DOCKER_HUB_NAMES:
        host = _DOCKER_HUB_API
    path = parts.path.rstrip("/")
    if "v2" not in path.split("/"):
        path += "/v2"
    return f"{parts.scheme}://{host}{path}"
