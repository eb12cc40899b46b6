# SPDX-License-Identifier: Apache-2.0
"""Pages for people: what the registry holds, down to layers and history, and what is under way.

They ask no upstream and change nothing. What makes them is loaded when somebody looks.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from buildset_registry.auth.access import Role
from buildset_registry.errors import NoSuchEndpoint, RegistryError
from buildset_registry.http.context import Context
from buildset_registry.http.request import Request
from buildset_registry.http.response import Bytes, Response
from buildset_registry.oci.names import Reference, RepositoryName, Tag, parse_reference
from buildset_registry.pacing import aside

if TYPE_CHECKING:
    from buildset_registry.report.live import Place

#: The routes of pages, and how a browser is asked for a login there.
PAGES = frozenset({"page", "page-repository"})
BASIC = 'Basic realm="buildset-registry"'
#: Repositories and tags of one page.
_LISTED = 500


async def front(request: Request, context: Context) -> Response:
    """Show the repositories, and the transfers that are under way."""
    _check_endpoint(context)
    from buildset_registry.report.live import Transfer, front_page

    last = request.query.get("last")
    page = await context.registry.repositories(_LISTED, last)
    rights = context.rights(request.identity)
    names = [name for name in map(str, page.items) if rights.allow(RepositoryName(name))]
    following = f"?last={quote(page.items[-1])}" if page.more else ""
    # Sessions that rest are left out: to look for them is to walk all of the storage.
    sending = context.uploads.sending
    transfers = [Transfer("push", one.name, one.upload.size, None) for one in sending]
    transfers += [
        Transfer("from upstream", one.name, one.received, one.size) for one in context.arriving()
    ]
    shown = [one for one in transfers if rights.allow(RepositoryName(one.name))]
    return _page(front_page(_place(request), names, following, shown))


async def repository(request: Request, context: Context) -> Response:
    """Show the tags of a repository, or one image of it."""
    _check_endpoint(context)
    from buildset_registry.report.live import repository_page

    name, wanted = request.name, request.query.get("reference")
    if wanted is None:
        page = await context.registry.tags(name, _LISTED, request.query.get("last"))
        following = f"?last={quote(page.items[-1])}" if page.more else ""
        return _page(repository_page(_place(request), name, page.items, following))
    reference = parse_reference(wanted)
    async with context.one_page:
        return _page(await _image(request, context, reference))


async def _image(request: Request, context: Context, reference: Reference) -> str:
    """Return the page of an image; in a thread, where it is as large as it may be."""
    from buildset_registry.report.live import image_page, read_image

    name = request.name
    stored = await context.registry.stored_manifest(name, reference)
    if stored is None:
        raise NoSuchEndpoint(f"{name} has no {reference} in the store; pull it to have it here")
    size, content = len(stored.raw), None
    image = await aside(size, partial(read_image, stored.raw, stored.media_type, stored.digest))
    if image.config is not None:
        with suppress(RegistryError):
            content = await context.registry.stored_content(name, image.config.digest)
    if content:
        size += len(content)
        await aside(len(content), partial(image.add_history, content))
    tag = reference if isinstance(reference, Tag) else ""
    return await aside(size, partial(image_page, _place(request), name, tag, image))


def _check_endpoint(context: Context) -> None:
    if context.policy.endpoint is Role.PULL:
        raise NoSuchEndpoint(f"there is no page here; {context.elsewhere}")


def _place(request: Request) -> Place:
    """Return the registry's address as a client sees it."""
    from buildset_registry.report.live import Place

    return Place(request.public.origin.partition("://")[2], request.public.prefix)


def _page(content: str) -> Response:
    from buildset_registry.report.assets import live_policy

    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": live_policy(),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return Response(200, headers, Bytes(content.encode("utf-8", "replace")))
