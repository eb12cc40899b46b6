# SPDX-License-Identifier: Apache-2.0
"""The overlay of a repository: images of other builds that a client hands over by their digests."""

from __future__ import annotations

from buildset_registry.errors import NoSuchEndpoint, SizeInvalid
from buildset_registry.http.context import Context
from buildset_registry.http.request import Request
from buildset_registry.http.response import Response, json_response
from buildset_registry.overlay.handing import take

#: Bytes of a document that are read: a hundred images are 100 kB.
_MOST = 1024 * 1024


async def put(request: Request, context: Context) -> Response:
    """Take images of a repository; who may push to it could as well push what they are."""
    if context.overlay is None:
        raise NoSuchEndpoint("this registry has no overlay (overlay.folder in its configuration)")
    raw = await request.read(_MOST)
    if raw is None:
        raise SizeInvalid("an overlay of more than 1 MiB is not taken; hand over fewer images")
    user = request.identity.name or ""
    return json_response({"images": await take(context.overlay, request.name, raw, user)}, 201)
