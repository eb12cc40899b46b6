# SPDX-License-Identifier: Apache-2.0
"""Blobs: get (end-2), head, delete (end-10)."""

from __future__ import annotations

from functools import partial

from buildset_registry.auth.access import Role
from buildset_registry.http.conditional import (
    conditional,
    entity_tag,
    not_modified,
    range_applies,
)
from buildset_registry.http.context import Context
from buildset_registry.http.ranges import ranged_response
from buildset_registry.http.request import Request
from buildset_registry.http.response import File, Response, Stream
from buildset_registry.lookup import ArrivingBlob
from buildset_registry.oci.descriptor import OCTETS
from buildset_registry.oci.digest import Digest
from buildset_registry.store.base import BlobFile, BlobRedirect, StoredBlob


async def get(request: Request, context: Context) -> Response:
    """Send a blob, a range of it, or several ranges."""
    digest = Digest.parse(request.path["digest"])
    headers, rights = _headers(digest), context.rights(request.identity)
    if conditional(request.headers):
        # Whether it is here comes first (RFC 9110, 13.2.1), and asking does not fetch it.
        await context.registry.blob_size(request.name, digest, rights)
        if not_modified(request.headers, digest):
            return Response(304, headers)
    blob = await context.registry.blob(request.name, digest, rights)
    if isinstance(blob, BlobRedirect):
        return Response(307, {"Location": blob.url, "Docker-Content-Digest": str(digest)})
    wanted = request.headers.get("range")
    if wanted is not None and range_applies(request.headers, digest):
        return ranged_response(wanted, blob, partial(_body, blob), headers)
    return Response(200, headers, _body(blob, 0, blob.size))


async def head(request: Request, context: Context) -> Response:
    """Tell whether a blob is here and how large it is.

    At the push endpoint a client asks in order to push, and so does one that logged in where one
    port serves both: it is told of the store only, so that a push does not wait for an upstream.
    """
    digest = Digest.parse(request.path["digest"])
    role, logged_in = context.policy.endpoint, request.identity.name is not None
    if role is Role.PUSH or (role is Role.SINGLE and logged_in):
        size = await context.registry.promised_size(request.name, digest)
    else:
        rights = context.rights(request.identity)
        size = await context.registry.blob_size(request.name, digest, rights)
    headers = _headers(digest)
    if not_modified(request.headers, digest):
        return Response(304, headers)
    headers["Content-Length"] = str(size)
    return Response(200, headers)


async def delete(request: Request, context: Context) -> Response:
    """Remove a blob from the repository."""
    await context.registry.delete_blob(request.name, Digest.parse(request.path["digest"]))
    return Response(202)


def _body(blob: StoredBlob | ArrivingBlob, start: int, end: int) -> File | Stream:
    if isinstance(blob, BlobFile) and 0 < blob.size == end - start:
        return File(blob.path, blob.size)
    return Stream(end - start, blob.chunks(start, end))


def _headers(digest: Digest) -> dict[str, str]:
    text = str(digest)
    return {
        "Content-Type": OCTETS,
        "Docker-Content-Digest": text,
        "ETag": entity_tag(text),
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000",
    }
