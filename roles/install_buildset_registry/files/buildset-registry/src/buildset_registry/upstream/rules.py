# SPDX-License-Identifier: Apache-2.0
"""Which upstream a repository belongs to, and where that is; pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from buildset_registry.config import Upstream
from buildset_registry.oci.names import DOCKER_HUB, RepositoryName

#: Names and web hosts of Docker Hub, and the one host that serves its API.
_DOCKER_HUB_NAMES = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_DOCKER_HUB_API = "registry-1.docker.io"


class Rules:
    """The registries that may be asked; no other ever is."""

    def __init__(self, upstreams: tuple[Upstream, ...]) -> None:
        self._upstreams = {_host(upstream.name): upstream for upstream in upstreams}

    def find(self, name: RepositoryName) -> Upstream | None:
        """Return the upstream that the repository belongs to, if it is configured."""
        return self._upstreams.get(name.host)

    def urls(self, upstream: Upstream, name: RepositoryName) -> tuple[str, ...]:
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
