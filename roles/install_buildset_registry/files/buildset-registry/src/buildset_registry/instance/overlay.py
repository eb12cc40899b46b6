# SPDX-License-Identifier: Apache-2.0
"""Handing images of other builds to a registry: its files, and whether the images can be had."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from buildset_registry.errors import ConfigError, ManifestUnknown, RegistryError
from buildset_registry.instance.paths import write_file
from buildset_registry.overlay.client import holder_client
from buildset_registry.overlay.document import FILE, ImageHolder, OverlaidImage, Overlay

#: Images that are asked about at once, and seconds that all of it may take.
_AT_ONCE = 16
_SECONDS = 30.0


def prepare(folder: Path, later: Overlay) -> None:
    """Make the folder, with the authorities in it that verify who holds the images."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make {folder}: {error.strerror}; run this as the user whose registry it is"
        ) from None
    for holder in _by_holder(later):
        if holder.authority is not None:
            write_file(folder / holder.authority, holder.cert)


def hand_over(folder: Path, later: Overlay) -> None:
    """Add images to those that were handed over; the registry that runs has them at once."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        write_file(folder / FILE, Overlay.load(folder).with_more(later).dump(), 0o600)
    finally:
        os.close(descriptor)


async def failures(overlay: Overlay, folder: Path) -> list[str]:
    """Ask for each image by its digest; return a line for each that is not to be had from here."""
    asked = [_ask(holder, images, folder) for holder, images in _by_holder(overlay).items()]
    return sorted(line for lines in await asyncio.gather(*asked) for line in lines)


def _by_holder(overlay: Overlay) -> dict[ImageHolder, list[OverlaidImage]]:
    found: dict[ImageHolder, list[OverlaidImage]] = {}
    for image in overlay.images.values():
        found.setdefault(image.holder, []).append(image)
    return found


async def _ask(holder: ImageHolder, images: Sequence[OverlaidImage], folder: Path) -> list[str]:
    client, turns = holder_client(holder, folder), asyncio.Semaphore(_AT_ONCE)

    async def ask(image: OverlaidImage) -> str | None:
        what = f"{image.name}, made by {image.made_by}:"
        try:
            async with turns:
                await asyncio.wait_for(client.head(image.there, image.digest), _SECONDS)
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
