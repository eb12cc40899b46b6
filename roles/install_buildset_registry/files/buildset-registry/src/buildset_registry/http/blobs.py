# SPDX-License-Identifier: Apache-2.0
"""Blobs: get (end-2), head, delete (end-10)."""

from __future__ import annotations

from functools import partial

from buildset_registry.auth.access import Intent, Role
from buildset_registry.errors import BlobUnknown, UpstreamBusy, UpstreamFailed
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
from buildset_registry.oci.descriptor import OCTETS
from buildset_registry.oci.digest import Digest
from buildset_registry.sources import ArrivingBlob
from buildset_registry.store.base import BlobFile, BlobRedirect, BlobSource, StoredBlob


async def get(request: Request, context: Context) -> Response:
    """Send a blob, a range of it, or several ranges."""
    digest = Digest.parse(request.path["digest"])
    headers, rights = _headers(digest), context.rights(request.identity)
    if conditional(request.headers):
        # Whether it is here comes first (RFC 9110, 13.2.1), and asking does not fetch it.
        await context.registry.blob_size(request.name, digest, rights)
        if not_modified(request.headers, digest):
            return Response(304, headers)
    blob = await context.registry.blob(request.name, digest, rights, request)
    agent = request.headers.get("user-agent", "")
    if isinstance(blob, BlobRedirect) and not context.streamed.has(request.client, agent):
        return Response(307, {"Location": blob.url, "Docker-Content-Digest": str(digest)})
    wanted = request.headers.get("range")
    if wanted is not None and range_applies(request.headers, digest):
        return ranged_response(wanted, blob, partial(_body, blob), headers)
    return Response(200, headers, _body(blob, 0, blob.size))


async def head(request: Request, context: Context) -> Response:
    """Tell whether a blob is here and how large it is.

    Who asks in order to push is told of the store only, so that a push does not wait for an
    upstream, and what it is told of stays. Nothing is kept for who may not push.
    """
    digest = Digest.parse(request.path["digest"])
    if context.policy.endpoint is Role.PULL:
        rights = context.rights(request.identity)
        size = await context.registry.blob_size(request.name, digest, rights)
    else:
        size = await _size(request, context, digest)
    headers = _headers(digest)
    if not_modified(request.headers, digest):
        return Response(304, headers)
    headers["Content-Length"] = str(size)
    return Response(200, headers)


async def _size(request: Request, context: Context, digest: Digest) -> int:
    """Return a blob's size where somebody may be about to push it.

    A password does not tell whether its user pulls or pushes; most who pull ask by GET.
    """
    identity, name, registry = request.identity, request.name, context.registry
    intent = context.intent(identity, name)
    if intent is Intent.PULL:
        return await registry.blob_size(name, digest, context.rights(identity))
    try:
        return await registry.promised_size(name, digest)
    except BlobUnknown:
        if intent is Intent.PUSH or identity.scopes is None:
            raise
    try:
        return await registry.blob_size(name, digest, context.rights(identity))
    except (UpstreamFailed, UpstreamBusy) as error:
        # It may be about to push: that an upstream fails is no reason to refuse that.
        raise BlobUnknown(f"{name} has no blob {digest}; {error.message}") from None


async def delete(request: Request, context: Context) -> Response:
    """Remove a blob from the repository."""
    await context.registry.delete_blob(request.name, Digest.parse(request.path["digest"]))
    return Response(202)


def _body(blob: StoredBlob | ArrivingBlob, start: int, end: int) -> File | Stream:
    if isinstance(blob, BlobFile) and 0 < blob.size == end - start:
        return File(blob.path, blob.size)
    arriving = not isinstance(blob, BlobFile | BlobSource | BlobRedirect)
    return Stream(end - start, blob.chunks(start, end), arriving=arriving)


def _headers(digest: Digest) -> dict[str, str]:
    text = str(digest)
    return {
        "Content-Type": OCTETS,
        "Docker-Content-Digest": text,
        "ETag": entity_tag(text),
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000",
    }
