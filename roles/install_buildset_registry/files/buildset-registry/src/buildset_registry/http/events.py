# SPDX-License-Identifier: Apache-2.0
"""Events of an endpoint: made of requests that were answered, told to the receivers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from buildset_registry.errors import RegistryError
from buildset_registry.http.context import Context
from buildset_registry.http.request import Request
from buildset_registry.http.response import Response
from buildset_registry.ledger.rows import clipped
from buildset_registry.notifications.events import Cause, Event, Target
from buildset_registry.oci.descriptor import OCTETS
from buildset_registry.oci.digest import Digest


class Recipient(Protocol):
    """A receiver of events."""

    def put(self, event: Event) -> None:
        """Take an event, at once."""


@dataclass(frozen=True, slots=True)
class _RouteAction:
    """The action of a route, on what it acts, and the status by which it says that it did."""

    action: str
    what: str
    status: int


#: A blob that is to be fetched elsewhere was pulled, too.
_REDIRECTED = 307
_ACTIONS = {
    "end-2": _RouteAction("pull", "blobs", 200),
    "end-3": _RouteAction("pull", "manifests", 200),
    "end-4": _RouteAction("push", "blobs", 201),
    "end-6": _RouteAction("push", "blobs", 201),
    "end-7": _RouteAction("push", "manifests", 201),
    "end-9": _RouteAction("delete", "manifests", 202),
    "end-10": _RouteAction("delete", "blobs", 202),
}


class Events:
    """The events of one endpoint, for its recipients."""

    def __init__(self, recipients: list[Recipient], context: Context) -> None:
        self._recipients = recipients
        self._context = context

    async def add(self, request: Request, response: Response) -> None:
        """Tell of a request that was answered, if there is something to tell."""
        kind = _ACTIONS.get(request.route)
        if kind is None or request.method == "HEAD":
            return
        if response.status not in (kind.status, _REDIRECTED):
            return
        target = await self._target(kind, request, response)
        action = response.outcome.action if response.outcome else kind.action
        for tag in _tags(request, response):
            event = Event(action, replace(target, tag=tag), _cause(request))
            for recipient in self._recipients:
                recipient.put(event)

    async def _target(self, kind: _RouteAction, request: Request, response: Response) -> Target:
        reference = request.path.get("reference", "")
        digest = response.headers.get("Docker-Content-Digest") or request.path.get("digest", "")
        if kind.action == "delete" and ":" in reference:
            digest = digest or reference
        mounted = response.outcome is not None and response.outcome.action == "mount"
        source = request.source("from") if mounted else None
        return Target(
            repository=str(request.name),
            media_type=_media_type(kind, request, response),
            digest=digest,
            size=await self._size(kind, request, response, digest),
            url=_url(kind, request, digest),
            from_repository=str(source or ""),
        )

    async def _size(
        self, kind: _RouteAction, request: Request, response: Response, digest: str
    ) -> int | None:
        if kind.action == "pull" and response.status != _REDIRECTED:
            return response.body.size
        if kind.action == "delete":
            return None
        if response.outcome is not None and response.outcome.size is not None:
            return response.outcome.size
        try:
            registry, parsed = self._context.registry, Digest.parse(digest)
            return await registry.blob_size(request.name, parsed)
        except RegistryError:
            return None  # removed again in the meantime


def _media_type(kind: _RouteAction, request: Request, response: Response) -> str:
    if kind.action == "delete":
        return ""
    if kind.what == "blobs":
        return OCTETS
    if response.outcome is not None:
        return response.outcome.media_type
    return response.headers["Content-Type"]


def _tags(request: Request, response: Response) -> tuple[str, ...]:
    """Return the tags that it is about, each of which is told; an empty one where there is none."""
    reference = request.path.get("reference", "")
    pushed = response.outcome.tags if response.outcome is not None else ()
    return pushed or ("" if ":" in reference else reference,)


def _url(kind: _RouteAction, request: Request, digest: str) -> str:
    if not digest or kind.action == "delete":
        return ""
    base = request.public.origin + request.public.prefix
    return f"{base}/v2/{request.path['name']}/{kind.what}/{digest}{request.namespace}"


def _cause(request: Request) -> Cause:
    # Thousands of events may wait for a receiver: no more of what a client said than of its name.
    return Cause(
        client=request.client,
        host=clipped(request.headers.get("host", "")),
        method=request.method,
        agent=clipped(request.headers.get("user-agent", "")),
        user=clipped(request.identity.name or ""),
    )
