# SPDX-License-Identifier: Apache-2.0
"""Upload sessions: start (end-4a, 4b, 11), append (end-5), finish (end-6), status (end-13), cancel.

Locations are paths, which hold behind any proxy, and name the repository as the client did; ``app``
makes whole URLs of them where that is configured.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from buildset_registry.errors import (
    BlobUploadUnknown,
    Denied,
    DigestInvalid,
    RangeInvalid,
    SizeInvalid,
)
from buildset_registry.http.context import Context
from buildset_registry.http.ranges import parse_chunk, upload_range
from buildset_registry.http.request import Request
from buildset_registry.http.response import PushOutcome, Response
from buildset_registry.oci.descriptor import OCTETS
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import UploadId
from buildset_registry.protocol.verification import VERIFIES
from buildset_registry.store.base import Upload

#: What a browser says of a request that no other site had a part in (Fetch Metadata).
_OWN = frozenset({"same-origin", "none"})


async def start(request: Request, context: Context) -> Response:
    """Mount a blob, take it in one request, or open a session; what was asked for, if possible."""
    _check_sender(request)
    if context.quotas is not None:
        context.quotas.check(request.name, request.content_length or 0)
    if request.query.get("mount"):
        digest = Digest.parse(request.query["mount"])
        source = request.source("from")
        named = "from" not in request.query or source is not None
        rights = context.rights(request.identity)
        if named and await context.registry.mount(request.name, digest, source, rights):
            if context.quotas is not None:
                size = await context.registry.blob_size(request.name, digest)
                context.quotas.add(request.name, size, digest, source)
            return _created(request, digest, "mount")
    upload = await context.registry.start_upload(request.name)
    if "digest" in request.query:
        return await _finish(request, context, upload, request.body())
    return Response(202, {**_progress(request, upload), **VERIFIES})


def _check_sender(request: Request) -> None:
    """Raise ``Denied`` for a form of another site, which a browser sends with the user's login.

    A browser has a login since there are pages. All other methods that change something it asks
    about first (Fetch, "CORS-preflight fetch"), and nobody tells it that it may.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    own = site in _OWN if site is not None else origin in (None, request.public.origin)
    if not own:
        raise Denied("a page of another site may not push by a browser's login")


async def append(request: Request, context: Context) -> Response:
    """Take a chunk, or everything as one stream."""
    upload = await _find(request, context)
    chunk = _chunk(request, upload)
    with context.uploads.one(request.name, upload, request.sender):
        await upload.append(chunk)
    return Response(202, _progress(request, upload))


async def finish(request: Request, context: Context) -> Response:
    """Take the last chunk, if there is one, verify, and make it a blob.

    Whoever was not answered, since a server died or a proxy gave up, sends it again. PUT is
    idempotent (RFC 9110, 9.2.2), so that proxies do it, too.
    """
    try:
        return await _finish_found(request, context, await _find(request, context))
    except BlobUploadUnknown:
        again = await _again(request, context)
        if again is None:
            raise
        return again


async def _finish_found(request: Request, context: Context, upload: Upload) -> Response:
    """Finish a session; one of which nothing has arrived may be one that has ended elsewhere."""
    begins = not upload.size
    try:
        return await _finish(request, context, upload, _chunk(request, upload, last=True))
    except (DigestInvalid, RangeInvalid) as error:
        # Whoever sends what belongs behind the beginning has sent that before.
        elsewhere = upload.size if isinstance(error, DigestInvalid) else None
        again = await _again(request, context, elsewhere=elsewhere) if begins else None
        if again is None:
            raise
        return again


async def status(request: Request, context: Context) -> Response:
    """Tell how much has arrived, so that a client can go on from there."""
    upload = await _find(request, context)
    return Response(204, _progress(request, upload))


async def cancel(request: Request, context: Context) -> Response:
    """End a session and forget what arrived."""
    upload = await _find(request, context)
    await upload.cancel()
    return Response(204)


async def _find(request: Request, context: Context) -> Upload:
    return await context.registry.upload(request.name, UploadId.parse(request.path["upload"]))


async def _again(
    request: Request, context: Context, *, elsewhere: int | None = None
) -> Response | None:
    """Answer once more that an upload has become a blob; None where it has not."""
    if not request.query.get("digest"):
        return None
    digest = Digest.parse(request.query["digest"])
    chunk = request.headers.get("content-range")
    size = None if chunk is None else sum(parse_chunk(chunk))
    if not await context.registry.is_finished(request.name, digest, elsewhere=elsewhere, size=size):
        return None
    return _created(request, digest, "push")


async def _finish(
    request: Request, context: Context, upload: Upload, chunk: AsyncIterator[bytes]
) -> Response:
    if not request.query.get("digest"):
        raise DigestInvalid("the digest of the upload is missing; give ?digest=")
    digest = Digest.parse(request.query["digest"])
    with context.uploads.one(request.name, upload, request.sender):
        await upload.append(chunk, last=digest)
    await context.registry.finish_upload(request.name, upload, digest)
    if context.quotas is not None:
        context.quotas.add(request.name, upload.size, digest)
    return _created(request, digest, "push")


def _chunk(request: Request, upload: Upload, *, last: bool = False) -> AsyncIterator[bytes]:
    """Return the body, of which ``Content-Range`` may say where it belongs and how long it is.

    A ``last`` one that has arrived before, with an answer that was lost, is passed over: of all
    that is here, the digest decides.
    """
    header = request.headers.get("content-range")
    if header is None:
        return request.body()
    first, length = parse_chunk(header)
    known = last and first + length == upload.size
    if first != upload.size and not known:
        raise RangeInvalid(
            f"the next chunk starts at {upload.size}, not {first}",
            headers=_progress(request, upload),
        )
    if request.content_length not in (None, length):
        raise SizeInvalid(f"Content-Range names {length} bytes, Content-Length another number")
    chunk = request.body()
    if request.content_length is None:
        chunk = _of_length(chunk, length)
    return _passed_over(chunk) if known else chunk


async def _of_length(pieces: AsyncIterator[bytes], length: int) -> AsyncGenerator[bytes]:
    """Yield a chunk that comes without a Content-Length, as long as Content-Range says it is."""
    left = length
    async for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise SizeInvalid(f"Content-Range names {length} bytes, and more arrived")
        yield piece
    if left:
        raise SizeInvalid(f"Content-Range names {length} bytes, and {length - left} arrived")


async def _passed_over(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Read a chunk to its end, and yield nothing of each piece."""
    async for piece in pieces:
        yield piece[:0]


def _created(request: Request, digest: Digest, action: str) -> Response:
    location = f"/v2/{request.path['name']}/blobs/{digest}{request.namespace}"
    headers = {"Location": location, "Docker-Content-Digest": str(digest)}
    return Response(201, headers, outcome=PushOutcome(action, OCTETS))


def _progress(request: Request, upload: Upload) -> dict[str, str]:
    location = f"/v2/{request.path['name']}/blobs/uploads/{upload.id}{request.namespace}"
    return {
        "Location": location,
        "Range": upload_range(upload.size),
        "Docker-Upload-UUID": str(upload.id),
    }
