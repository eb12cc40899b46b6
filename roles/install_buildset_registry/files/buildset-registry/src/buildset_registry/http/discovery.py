# SPDX-License-Identifier: Apache-2.0
"""Discovery: the API itself (end-1), tags (end-8), referrers (end-12), distribution's catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from urllib.parse import urlencode

from buildset_registry.errors import PaginationInvalid
from buildset_registry.http.context import Context
from buildset_registry.http.request import Request
from buildset_registry.http.response import Response, json_response
from buildset_registry.oci.descriptor import OCI_INDEX, Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.pacing import aside
from buildset_registry.pages import Page


async def base(request: Request, context: Context) -> Response:
    """Tell that this is a registry, and that the credentials are good."""
    return json_response({})


async def catalog(request: Request, context: Context) -> Response:
    """List the repositories of the store."""
    page = await context.registry.repositories(_limit(request), request.query.get("last"))
    return json_response({"repositories": page.items}, headers=_next(request, page))


async def tags(request: Request, context: Context) -> Response:
    """List a repository's tags in lexical order."""
    page = await context.registry.tags(request.name, _limit(request), request.query.get("last"))
    return json_response(
        {"name": request.path["name"], "tags": page.items}, headers=_next(request, page)
    )


async def referrers(request: Request, context: Context) -> Response:
    """List what names a manifest as its subject, as an image index."""
    subject = Digest.parse(request.path["digest"])
    artifact_type = request.query.get("artifactType")
    last = request.query.get("last")
    page = await context.registry.referrers(request.name, subject, artifact_type, last)
    headers = {"OCI-Filters-Applied": "artifactType"} if artifact_type is not None else {}
    if page.more:
        headers["Link"] = _link(request, {"last": str(page.last)})
    return await aside(page.size, partial(_index, page.items, headers))


def _index(items: Sequence[Descriptor], headers: Mapping[str, str]) -> Response:
    manifests = [descriptor.to_json() for descriptor in items]
    tree = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    return json_response(tree, headers=headers, media_type=OCI_INDEX)


def _limit(request: Request) -> int | None:
    value = request.query.get("n")
    if value is None:
        return None
    if not value.isascii() or not value.isdecimal() or len(value) > 9:
        raise PaginationInvalid
    return int(value)


def _next(request: Request, page: Page) -> dict[str, str]:
    """Return the Link to what follows the page (RFC 8288)."""
    if not page.more:
        return {}
    return {"Link": _link(request, {"n": str(len(page.items)), "last": page.items[-1]})}


def _link(request: Request, following: Mapping[str, str]) -> str:
    query = {key: value for key, value in request.query.items() if key not in ("n", "last")}
    return f'<{request.url}?{urlencode({**query, **following})}>; rel="next"'
