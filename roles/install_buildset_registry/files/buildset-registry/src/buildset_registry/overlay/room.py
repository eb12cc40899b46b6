# SPDX-License-Identifier: Apache-2.0
"""The room in the overlay: what goes to make some, and how much one client may take; pure.

An image whose token has ended stays, for its name is not to mean upstream's image as long as
somebody may ask for it who was to get that of a build: such a client gets an error that names the
build. The token and the authority of who held it go, which are most of its bytes. Where there is no
room left, those images go that nobody's job can be waiting for.
"""

from __future__ import annotations

import hashlib

from buildset_registry.errors import StorageFull
from buildset_registry.overlay.document import OverlaidImage, Overlay

#: Seconds after its end for which a token is kept: the holder's clock may be late.
_LATE = 3600.0
#: Seconds after its end for which an image stays at any rate: a token lives for a day at most, and
#: so does a job that was handed it.
_ASKED_FOR = 7 * 24 * 3600.0
#: Images that go at once.
_SOME = 100


def client_key(user: str) -> str:
    """Return the short form of a client by which the overlay knows what it handed over."""
    return hashlib.sha256(user.encode()).hexdigest()[:16]


def without_ended_tokens(overlay: Overlay, now: float) -> Overlay:
    """Return the overlay without the tokens that have surely ended."""
    return overlay.without_tokens(now - _LATE)


def fitting(overlay: Overlay, client: str, most: int, now: float) -> Overlay:
    """Return an overlay to which a client has just added, with what goes to make room for that.

    ``StorageFull`` where its file would have more than ``most`` bytes, or less room would be left
    to all other clients than this one has taken: so no number of them finds it full.
    """
    old = sorted(
        (one for one in overlay.images.values() if one.holder.expires < now - _ASKED_FOR),
        key=lambda one: one.holder.expires,
    )
    while True:
        left = most - len(overlay.dump())
        taken = len(_of(overlay, client).dump())
        if taken <= left:
            return overlay
        if not old:
            raise _full(left, taken)
        overlay, old = _without(overlay, old[:_SOME]), old[_SOME:]


def _of(overlay: Overlay, client: str) -> Overlay:
    return Overlay({name: one for name, one in overlay.images.items() if one.holder.by == client})


def _without(overlay: Overlay, gone: list[OverlaidImage]) -> Overlay:
    names = {one.name for one in gone}
    images = {name: one for name, one in overlay.images.items() if name not in names}
    return Overlay(images, overlay.registries)


def _full(left: int, taken: int) -> StorageFull:
    if left < 0:
        return StorageFull("there is no room for more images of other builds; copy them")
    return StorageFull(
        f"there is no room for more images of other builds from this user: they would take {taken} "
        f"bytes, and leave {left} to all others; copy them"
    )
