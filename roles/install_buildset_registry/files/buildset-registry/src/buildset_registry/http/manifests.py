# SPDX-License-Identifier: Apache-2.0
"""Manifests: get (end-3), head, put (end-7), delete (end-9)."""

from __future__ import annotations

from functools import partial

from buildset_registry.auth.access import Intent
from buildset_registry.errors import (
    ManifestTooLarge,
    ManifestUnknown,
    UpstreamBusy,
    UpstreamFailed,
)
from buildset_registry.http.conditional import check_change, conditional, entity_tag, not_modified
from buildset_registry.http.context import Context
from buildset_registry.http.image_tokens import is_of_images, pushed_images
from buildset_registry.http.request import Request
from buildset_registry.http.response import Bytes, PushOutcome, Response
from buildset_registry.oci.descriptor import IMAGES, INDEXES, Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import MAX_MANIFEST
from buildset_registry.oci.names import Tag, parse_reference
from buildset_registry.registry import Admit, PushTerms

_KNOWN = IMAGES | INDEXES


async def get(request: Request, context: Context) -> Response:
    """Send a manifest as it was pushed, whatever types the client says it accepts."""
    stored = await context.registry.manifest(
        request.name, parse_reference(request.path["reference"])
    )
    headers = _headers(stored.digest, stored.media_type)
    if not_modified(request.headers, stored.digest):
        return Response(304, headers)
    return Response(200, headers, Bytes(stored.raw))


async def head(request: Request, context: Context) -> Response:
    """Tell what GET would send.

    Who asks in order to push is told of what was pushed only: where upstream or the cache has the
    same, the push would be left out, and would not win once upstream moves on.
    """
    found = await _described(request, context)
    headers = _headers(found.digest, found.media_type)
    if not_modified(request.headers, found.digest):
        return Response(304, headers)
    headers["Content-Length"] = str(found.size)
    return Response(200, headers)


async def _described(request: Request, context: Context) -> Descriptor:
    name, reference = request.name, parse_reference(request.path["reference"])
    intent = context.intent(request.identity, name)
    if intent is Intent.PULL and isinstance(reference, Tag) and is_of_images(request, context):
        # It is asked for by its digest next, by which it is the token's image once it is stored.
        return (await context.registry.manifest(name, reference)).descriptor
    try:
        return await context.registry.describe(name, reference, pushed=intent is Intent.PUSH)
    except (UpstreamFailed, UpstreamBusy) as error:
        if intent is Intent.PULL:
            raise
        # It may be about to push: that an upstream fails is no reason to refuse that.
        raise ManifestUnknown(f"{name} has no manifest {reference}; {error.message}") from None


def _headers(digest: Digest, media_type: str) -> dict[str, str]:
    text = str(digest)
    headers = {
        "Content-Type": media_type,
        "Docker-Content-Digest": text,
        "ETag": entity_tag(text),
        # Somebody's content is not to become a page of this host in a browser.
        "X-Content-Type-Options": "nosniff",
    }
    if media_type not in _KNOWN:
        headers["Content-Security-Policy"] = "sandbox"
    return headers


async def put(request: Request, context: Context) -> Response:
    """Store a manifest by its digest or under a tag; ``?tag=`` gives it more tags at once."""
    tags = [Tag.parse(tag) for tag in request.query_all.get("tag", [])]
    references = [parse_reference(request.path["reference"]), *tags]
    raw = await request.read(MAX_MANIFEST)
    if raw is None:
        raise ManifestTooLarge
    content_type = request.headers.get("content-type", "")
    terms = PushTerms(_admit(request), pushed_images(request, context), request)
    manifest = await context.registry.push_manifest(
        request.name, references, raw, content_type, terms=terms
    )
    headers = {
        "Location": f"/v2/{request.path['name']}/manifests/{manifest.digest}{request.namespace}",
        "Docker-Content-Digest": str(manifest.digest),
    }
    if tags:
        headers["OCI-Tag"] = ", ".join(tags)
    if manifest.subject is not None:
        headers["OCI-Subject"] = str(manifest.subject.digest)
    tagged = tuple(str(one) for one in dict.fromkeys(references) if isinstance(one, Tag))
    outcome = PushOutcome("push", manifest.media_type, len(raw), tagged)
    return Response(201, headers, outcome=outcome)


async def delete(request: Request, context: Context) -> Response:
    """Remove a tag, or a manifest with all its tags."""
    reference = parse_reference(request.path["reference"])
    if isinstance(reference, Digest):
        await context.registry.delete_manifest(request.name, reference, admit=_admit(request))
    else:
        await context.registry.delete_tag(request.name, reference, admit=_admit(request))
    return Response(202)


def _admit(request: Request) -> Admit | None:
    """Return what checks the conditions of a change, if it has any."""
    return partial(check_change, request.headers) if conditional(request.headers) else None
