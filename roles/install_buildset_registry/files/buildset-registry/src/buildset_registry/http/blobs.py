# SPDX-License-Identifier: Apache-2.0
"""Blobs: get (end-2), head, delete (end-10)."""

from __future__ import annotations

from buildset_registry.auth.access import Role
from buildset_registry.http.context import Context
from buildset_registry.http.ranges import content_range, parse_range
from buildset_registry.http.request import Request
from buildset_registry.http.response import File, Response, Stream
from buildset_registry.oci.descriptor import OCTETS
from buildset_registry.oci.digest import Digest
from buildset_registry.store.base import BlobFile


async def get(request: Request, context: Context) -> Response:
    """Send a blob or a range of it."""
    digest = Digest.parse(request.path["digest"])
    headers = _headers(digest)
    if not_modified(request, digest):
        return Response(304, headers)
    blob = await context.registry.blob(request.name, digest)
    part = parse_range(request.headers.get("range"), blob.size)
    start, end = part or (0, blob.size)
    if part:
        headers["Content-Range"] = content_range(start, end, blob.size)
    status = 206 if part else 200
    if isinstance(blob, BlobFile):
        return Response(status, headers, File(blob.path, start, end, whole=part is None))
    return Response(status, headers, Stream(end - start, blob.chunks(start, end)))


async def head(request: Request, context: Context) -> Response:
    """Tell whether a blob is here and how large it is.

    Where one port serves pulls and pushes, a client that logged in asks in order to push: it
    is told of the store only, so that a push does not wait for an upstream.
    """
    digest = Digest.parse(request.path["digest"])
    pushing = context.policy.endpoint is Role.SINGLE and request.identity.name is not None
    size = await context.registry.blob_size(request.name, digest, ask_upstream=not pushing)
    return Response(200, {**_headers(digest), "Content-Length": str(size)})


async def delete(request: Request, context: Context) -> Response:
    """Remove a blob from the repository."""
    await context.registry.delete_blob(request.name, Digest.parse(request.path["digest"]))
    return Response(202)


def not_modified(request: Request, digest: Digest) -> bool:
    """Tell whether the client has it already (If-None-Match, RFC 9110, 13.1.2)."""
    wanted = request.headers.get("if-none-match", "")
    return any(
        tag.strip().removeprefix("W/").strip('"') == str(digest) for tag in wanted.split(",")
    )


def _headers(digest: Digest) -> dict[str, str]:
    return {
        "Content-Type": OCTETS,
        "Docker-Content-Digest": str(digest),
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000",
    }
