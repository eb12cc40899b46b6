# SPDX-License-Identifier: Apache-2.0
"""What is asked of whom: values, and the words for their failures; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from buildset_registry.config import Upstream
from buildset_registry.errors import RegistryError, UpstreamBusy, UpstreamFailed
from buildset_registry.oci.names import RepositoryName
from buildset_registry.upstream.failure import Failure
from buildset_registry.upstream.origins import Origin, origin
from buildset_registry.upstream.rules import Rules
from buildset_registry.upstream.tokens import basic

#: Seconds to wait before the second and the third try.
_PAUSES = (0.2, 0.5)
#: Seconds, or a date (RFC 9110, 10.2.3); nothing else is passed on.
_RETRY_AFTER = re.compile(r"[A-Za-z0-9 ,:-]{1,40}")


@dataclass(frozen=True, slots=True)
class Request:
    """One request, redirects included, and how its TLS is verified."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    ca: Path | None = None
    """Certificates that are trusted besides the system's..."""

    ca_origin: Origin | None = None
    """... but instead of them at this one server."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A manifest or a blob of a repository, and the refusal where there is none."""

    path: str
    missing: type[RegistryError]
    hidden: type[RegistryError]
    """The refusal where the upstream does not show it to us."""

    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"


@dataclass(frozen=True, slots=True)
class Site:
    """A place that serves a repository: the upstream itself, or a mirror of it."""

    upstream: Upstream
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

    def request(self, method: str, url: str, headers: Mapping[str, str]) -> Request:
        """Return a request that trusts what the upstream's configuration says."""
        return Request(method, url, headers, self.upstream.ca, origin(self.home))

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

    def lacks(self, wanted: Wanted) -> RegistryError:
        """Return the refusal for what the upstream does not have."""
        kind, _separator, reference = wanted.path.partition("/")
        return wanted.missing(
            f"upstream {self._name} has no {kind[:-1]} {reference} in {self._repository}"
        )

    def denies(self, wanted: Wanted) -> RegistryError:
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


def sites(rules: Rules, name: RepositoryName) -> tuple[Site, ...]:
    """Return the places to ask for a repository, in their order, the upstream itself the last."""
    upstream = rules.find(name)
    if upstream is None:
        return ()
    urls = rules.urls(upstream, name)
    return tuple(Site(upstream, url, urls[-1]) for url in urls)


def _passed_on(retry_after: str | None) -> dict[str, str]:
    if retry_after is None or not _RETRY_AFTER.fullmatch(retry_after):
        return {}
    return {"Retry-After": retry_after}
