# SPDX-License-Identifier: Apache-2.0
"""Tokens for single images: the requests that they allow where no other right does.

A token that pulls an image gets what belongs or refers to it. One that pushes an image sends
content to its repository, and asks whether something is there by its digest. It names manifests by
digest, by the image's tag, and by the tags under which clients find what refers to a part of it;
what it pushes refers to parts of it alone. It reads nothing.
"""

from __future__ import annotations

from buildset_registry.auth.access import Access, Verdict
from buildset_registry.http.context import Context
from buildset_registry.http.request import Request
from buildset_registry.oci.names import Reference, Tag, parse_reference

#: Endpoints at which single images are pulled: blobs, manifests, referrers.
_PULLED = frozenset({"end-2", "end-2-head", "end-3", "end-3-head", "end-12"})
#: Endpoints at which their blobs are sent.
_SENT = frozenset({"end-4", "end-5", "end-6", "end-13", "end-14"})
#: Endpoints at which they are named, or asked for in order to push.
_NAMED = frozenset({"end-2-head", "end-3-head", "end-7"})


async def allows(request: Request, context: Context) -> bool:
    """Tell whether a request is for an image that its token names, or for a part of one."""
    identity = request.identity
    if identity.images and request.route in _PULLED and await _pulls(request, context):
        return True
    return bool(identity.pushes) and await _pushes(request, context)


def is_of_images(request: Request, context: Context) -> bool:
    """Tell whether who asks may pull single images of the repository, and not all of it."""
    policy, identity, name = context.policy, request.identity, request.name
    return name in identity.images and (
        policy.decide(identity, Access.PULL, name) is not Verdict.ALLOW
    )


def pushed_images(request: Request, context: Context) -> frozenset[Reference] | None:
    """Return the images of the repository that a request may push, None where that is all."""
    policy, identity, name = context.policy, request.identity, request.name
    if not identity.pushes or policy.decide(identity, Access.PUSH, name) is Verdict.ALLOW:
        return None
    return policy.images(identity, name, Access.PUSH)


async def _pulls(request: Request, context: Context) -> bool:
    images = context.policy.images(request.identity, request.name)
    return bool(images) and await context.registry.reaches(request.name, images, _asked(request))


async def _pushes(request: Request, context: Context) -> bool:
    if request.route not in _SENT | _NAMED:
        return False
    images = context.policy.images(request.identity, request.name, Access.PUSH)
    if not images or request.route in _SENT:
        return bool(images)
    for one in (_asked(request), *map(Tag.parse, request.query_all.get("tag", ()))):
        if isinstance(one, Tag) and not await context.registry.reaches(request.name, images, one):
            return False
    return True


def _asked(request: Request) -> Reference:
    return parse_reference(request.path.get("reference") or request.path["digest"])
