# SPDX-License-Identifier: Apache-2.0
"""Handing images of other builds to a registry: its files, and whether the images can be had.

``buildset-registry overlay`` hands over what it is given: who may run it in the registry's folder
may do everything. A request is another matter (``take``): it may name those registries only that
the command has named, so that no client says what this registry connects to.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from buildset_registry.errors import (
    ConfigError,
    Denied,
    ManifestInvalid,
    ManifestUnknown,
    RegistryError,
    UpstreamFailed,
)
from buildset_registry.files import write_file
from buildset_registry.oci.hosts import RegistryHost
from buildset_registry.oci.names import RepositoryName
from buildset_registry.overlay.client import holder_client
from buildset_registry.overlay.document import (
    FILE,
    ImageHolder,
    OverlaidImage,
    Overlay,
    authority_file,
)
from buildset_registry.overlay.room import client_key, fitting, without_ended_tokens
from buildset_registry.pacing import aside

_log = logging.getLogger("buildset_registry.overlay")

#: Images that are asked about at once, and seconds that all of it may take.
_AT_ONCE = 16
_SECONDS = 30.0
#: Images that one request brings; each is asked for.
_MOST_OF_ONE = 200
#: Bytes of the file past which requests add nothing to it: it is read when it has changed. One
#: client alone gets the half of them.
_MOST = 1024 * 1024
#: Seconds from now past which no token lasts, whatever is said of it.
_LONGEST = 24 * 3600.0


def prepare(folder: Path, later: Overlay) -> None:
    """Make the folder, with the authorities in it that verify who holds the images."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make {folder}: {error.strerror}; run this as the user whose registry it is"
        ) from None
    for cert in later.registries.values():
        if cert:
            write_file(folder / authority_file(cert), cert)


def hand_over(folder: Path, later: Overlay, most: int | None = None, client: str = "") -> None:
    """Add images to those that were handed over; the registry that runs has them at once.

    ``StorageFull`` where that would be too much of the ``most`` bytes of the file for a client.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        now = time.time()
        overlay = without_ended_tokens(Overlay.load(folder), now).with_more(later)
        if most is not None:
            overlay = fitting(overlay, client, most, now)
        write_file(folder / FILE, overlay.dump(), 0o600)
    finally:
        os.close(descriptor)


async def take(folder: Path, name: RepositoryName, raw: bytes, user: str) -> list[str]:
    """Take the images of a repository that a user's request brings; return their names.

    The authority of who holds them is the one that the command has named, too.
    """
    later = await aside(len(raw), partial(_parse, raw))
    strange = [one for one in later.images.values() if one.name.name != name.canonical]
    if strange or not later.images:
        what = f"{strange[0].name} is not of {name}" if strange else "no image is named"
        raise ManifestInvalid(f"{what}; hand the images of each repository over by themselves")
    if len(later.images) > _MOST_OF_ONE:
        raise ManifestInvalid(f"these are more than {_MOST_OF_ONE} images; hand them over in parts")
    try:
        known = (await asyncio.to_thread(Overlay.load, folder)).registries
        client, until = client_key(user), time.time() + _LONGEST
        images = {key: _verified(one, known) for key, one in later.images.items()}
        later = Overlay({key: _given(one, client, until) for key, one in images.items()})
        failed = await failures(later, folder)
        if failed:
            raise UpstreamFailed("; ".join(failed))
        await asyncio.to_thread(hand_over, folder, later, _MOST, client)
    except ConfigError as error:
        _log.error("images of other builds are not taken: %s", error)
        raise RegistryError(
            "images of other builds cannot be noted here; its log says why; copy them"
        ) from None
    return sorted(map(str, later.images))


def _parse(raw: bytes) -> Overlay:
    try:
        return Overlay.parse(raw.decode(), "that was sent")
    except UnicodeDecodeError:
        raise ManifestInvalid("the overlay that was sent is not UTF-8") from None
    except ConfigError as error:
        raise ManifestInvalid(str(error)) from None


def _verified(image: OverlaidImage, known: Mapping[RegistryHost, str]) -> OverlaidImage:
    """Return an image with the authority of its holder as it is known here."""
    holder = image.holder
    if holder.host not in known:
        raise Denied(
            f"{holder.host} is not known to hold images of other builds; let "
            "buildset-registry overlay name it first, where this registry runs"
        )
    return replace(image, holder=replace(holder, cert=known[holder.host]))


def _given(image: OverlaidImage, client: str, until: float) -> OverlaidImage:
    """Return an image as one that a client handed over, for no longer than until a time."""
    holder = image.holder
    ends = min(holder.expires, until)
    return replace(image, holder=replace(holder, by=client, expires=ends))


async def failures(overlay: Overlay, folder: Path) -> list[str]:
    """Ask for each image by its digest; return a line for each that is not to be had from here."""
    # One client may name many tokens, each of which is another holder: all share the bounds.
    turns = _Turns(asyncio.Semaphore(_AT_ONCE), asyncio.get_running_loop().time() + _SECONDS)
    by_holder = _by_holder(overlay).items()
    asked = [_ask(holder, images, folder, turns) for holder, images in by_holder]
    return sorted(line for lines in await asyncio.gather(*asked) for line in lines)


class _Turns(NamedTuple):
    """The requests that may run, and until when in the loop's time."""

    free: asyncio.Semaphore
    until: float

    async def take(self, asking: Callable[[], Awaitable[object]]) -> None:
        """Ask when it is its turn; ``TimeoutError`` where that comes too late."""
        async with self.free:
            left = self.until - asyncio.get_running_loop().time()
            if left <= 0:
                raise asyncio.TimeoutError
            await asyncio.wait_for(asking(), left)


def _by_holder(overlay: Overlay) -> dict[ImageHolder, list[OverlaidImage]]:
    found: dict[ImageHolder, list[OverlaidImage]] = {}
    for image in overlay.images.values():
        found.setdefault(image.holder, []).append(image)
    return found


async def _ask(
    holder: ImageHolder, images: Sequence[OverlaidImage], folder: Path, turns: _Turns
) -> list[str]:
    client = holder_client(holder, folder)

    async def ask(image: OverlaidImage) -> str | None:
        what = f"{image.name}, made by {image.made_by}:"
        try:
            await turns.take(partial(client.head, image.there, image.digest))
        except ManifestUnknown as error:
            return f"{what} it is not at {holder.host} any more ({error.detail or error.message})"
        except RegistryError as error:
            return f"{what} {error.message}"
        except asyncio.TimeoutError:
            return f"{what} {holder.host} does not answer within {_SECONDS:g} s"
        return None

    try:
        lines = await asyncio.gather(*map(ask, images))
    finally:
        await client.close()
    return [line for line in lines if line is not None]
