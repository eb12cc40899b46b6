# SPDX-License-Identifier: Apache-2.0
"""The table of endpoints: the specification's identifier, method, path, right needed, handler."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from buildset_registry.auth.access import Access
from buildset_registry.errors import NoSuchEndpoint, Unsupported
from buildset_registry.http import (
    blobs,
    discovery,
    health,
    manifests,
    overlays,
    pages,
    tokens,
    uploads,
)
from buildset_registry.http.context import Context
from buildset_registry.http.request import Request
from buildset_registry.http.response import Response

#: Paths that were matched a short while ago: many clients ask for the same.
_REMEMBERED = 1024
#: Characters past which a path is not worth remembering: no client pulls by such a name.
_LONG = 500

#: Of endpoints by which a proxy finds out whether to send clients here.
HEALTH = frozenset({"healthz", "readyz"})

Handler = Callable[[Request, Context], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint; ``access`` is None where everybody may ask (to get a token)."""

    id: str
    method: str
    path: str
    access: Access | None
    handler: Handler


ROUTES = (
    Route("end-1", "GET", "/v2/", Access.BASE, discovery.base),
    Route("catalog", "GET", "/v2/_catalog", Access.CATALOG, discovery.catalog),
    Route("token", "GET", "/token", None, tokens.get),
    Route("token-oauth2", "POST", "/token", None, tokens.post),
    Route("page", "GET", "/", Access.CATALOG, pages.front),
    Route("page-repository", "GET", "/repositories/{name}", Access.PULL, pages.repository),
    Route("overlay", "PUT", "/overlay/{name}", Access.PUSH, overlays.put),
    Route("healthz", "GET", "/healthz", None, health.live),
    Route("readyz", "GET", "/readyz", None, health.ready),
    Route("end-2", "GET", "/v2/{name}/blobs/{digest}", Access.PULL, blobs.get),
    Route("end-2-head", "HEAD", "/v2/{name}/blobs/{digest}", Access.PULL, blobs.head),
    Route("end-3", "GET", "/v2/{name}/manifests/{reference}", Access.PULL, manifests.get),
    Route("end-3-head", "HEAD", "/v2/{name}/manifests/{reference}", Access.PULL, manifests.head),
    Route("end-4", "POST", "/v2/{name}/blobs/uploads/", Access.PUSH, uploads.start),
    Route("end-5", "PATCH", "/v2/{name}/blobs/uploads/{upload}", Access.PUSH, uploads.append),
    Route("end-6", "PUT", "/v2/{name}/blobs/uploads/{upload}", Access.PUSH, uploads.finish),
    Route("end-7", "PUT", "/v2/{name}/manifests/{reference}", Access.PUSH, manifests.put),
    Route("end-8", "GET", "/v2/{name}/tags/list", Access.PULL, discovery.tags),
    Route("end-9", "DELETE", "/v2/{name}/manifests/{reference}", Access.DELETE, manifests.delete),
    Route("end-10", "DELETE", "/v2/{name}/blobs/{digest}", Access.DELETE, blobs.delete),
    Route("end-12", "GET", "/v2/{name}/referrers/{digest}", Access.PULL, discovery.referrers),
    Route("end-13", "GET", "/v2/{name}/blobs/uploads/{upload}", Access.PUSH, uploads.status),
    Route("end-14", "DELETE", "/v2/{name}/blobs/uploads/{upload}", Access.PUSH, uploads.cancel),
)


def _compile(path: str) -> re.Pattern[str]:
    """Return the pattern of a path; a name may hold slashes, a final slash may be left out."""
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path).replace(
        "(?P<name>[^/]+)", "(?P<name>.+)"
    )
    return re.compile(f"{pattern}?" if path.endswith("/") else pattern)


def _resources() -> list[tuple[re.Pattern[str], dict[str, Route]]]:
    """Group the routes by path; GET answers HEAD where HEAD has no route of its own.

    Sorted so that ``/blobs/uploads/`` is tried before ``/blobs/{digest}``.
    """
    by_path: dict[str, dict[str, Route]] = {}
    for route in ROUTES:
        by_path.setdefault(route.path, {})[route.method] = route
    for methods in by_path.values():
        if "GET" in methods:
            methods.setdefault("HEAD", methods["GET"])
    ordered = sorted(by_path.items(), key=lambda item: "uploads" not in item[0])
    return [(_compile(path), methods) for path, methods in ordered]


_RESOURCES = _resources()


def match(method: str, path: str) -> tuple[Route, Mapping[str, str]]:
    """Return the route and the values in the path, or raise what the specification says instead."""
    return _matched(method, path) if len(path) <= _LONG else _search(method, path)


def _search(method: str, path: str) -> tuple[Route, Mapping[str, str]]:
    for pattern, methods in _RESOURCES:
        found = pattern.fullmatch(path)
        if found is None:
            continue
        route = methods.get(method)
        if route is None:
            allowed = ", ".join(sorted(methods))
            raise Unsupported(f"{method} is not possible here", headers={"Allow": allowed})
        return route, found.groupdict()
    raise NoSuchEndpoint


_matched = lru_cache(_REMEMBERED)(_search)
