# SPDX-License-Identifier: Apache-2.0
"""Upload sessions: start (end-4a, 4b, 11), append (end-5), finish (end-6), status (end-13), cancel.

Locations are paths, which hold behind any proxy, and name the repository as the client did; ``app``
makes whole URLs of them where that is configured.
"""

from __future__ import annotations

from urllib.parse import urlencode

from buildset_registry.errors import DigestInvalid, RangeInvalid, SizeInvalid
from buildset_registry.http.context import Context
from buildset_registry.http.ranges import parse_chunk, upload_range
from buildset_registry.http.request import Request
from buildset_registry.http.response import Response
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import UploadId
from buildset_registry.store.base import Upload


async def start(request: Request, context: Context) -> Response:
    """Mount a blob, take it in one request, or open a session; what was asked for, if possible."""
    if "mount" in request.query:
        digest = Digest.parse(request.query["mount"])
        source = request.source("from")
        named = "from" not in request.query or source is not None
        rights = context.rights(request.identity)
        if named and await context.registry.mount(request.name, digest, source, rights):
            return _created(request, digest)
    upload = await context.registry.start_upload(request.name)
    if "digest" in request.query:
        return await _finish(request, context, upload)
    return _accepted(request, upload)


async def append(request: Request, context: Context) -> Response:
    """Take a chunk, or everything as one stream."""
    upload = await _find(request, context)
    _check_chunk(request, upload)
    with context.uploads.one():
        await upload.append(request.body())
    return _accepted(request, upload)


async def finish(request: Request, context: Context) -> Response:
    """Take the last chunk, if there is one, verify, and make it a blob."""
    upload = await _find(request, context)
    _check_chunk(request, upload)
    return await _finish(request, context, upload)


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


async def _finish(request: Request, context: Context, upload: Upload) -> Response:
    if not request.query.get("digest"):
        raise DigestInvalid("the digest of the upload is missing; give ?digest=")
    digest = Digest.parse(request.query["digest"])
    with context.uploads.one():
        await upload.append(request.body(), last=digest)
    await context.registry.finish_upload(request.name, upload, digest)
    return _created(request, digest)


def _check_chunk(request: Request, upload: Upload) -> None:
    header = request.headers.get("content-range")
    if header is None:
        return
    first, length = parse_chunk(header)
    if first != upload.size:
        raise RangeInvalid(
            f"the next chunk starts at {upload.size}, not {first}",
            headers=_progress(request, upload),
        )
    if request.content_length not in (None, length):
        raise SizeInvalid(f"Content-Range names {length} bytes, Content-Length another number")


def _created(request: Request, digest: Digest) -> Response:
    location = f"/v2/{request.path['name']}/blobs/{digest}{_namespace(request)}"
    return Response(201, {"Location": location, "Docker-Content-Digest": str(digest)})


def _accepted(request: Request, upload: Upload) -> Response:
    return Response(202, _progress(request, upload))


def _progress(request: Request, upload: Upload) -> dict[str, str]:
    location = f"/v2/{request.path['name']}/blobs/uploads/{upload.id}{_namespace(request)}"
    return {
        "Location": location,
        "Range": upload_range(upload.size),
        "Docker-Upload-UUID": str(upload.id),
    }


def _namespace(request: Request) -> str:
    """Return the query that keeps naming the registry that ``?ns=`` named."""
    namespace = request.query.get("ns")
    return f"?{urlencode({'ns': namespace})}" if namespace else ""
