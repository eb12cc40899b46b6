# SPDX-License-Identifier: Apache-2.0
"""The comparison of a lock with its upstreams: what is gone there, and what a tag is now.

All of it is asked by HEAD, which no registry counts; a manifest is fetched where its tag moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from buildset_registry.errors import (
    ConfigError,
    ManifestHidden,
    ManifestUnknown,
    RegistryError,
)
from buildset_registry.image_lock.document import ImageLock, LockedImage, PublicName
from buildset_registry.image_lock.record import index_platforms
from buildset_registry.oci.descriptor import INDEXES
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.hosts import RegistryHost
from buildset_registry.upstream.client import UpstreamClient

#: Requests at once.
_TOGETHER = 16


@dataclass(frozen=True, slots=True)
class LockUpdate:
    """A lock with what its tags are now, and how it differs."""

    lock: ImageLock
    moved: dict[PublicName, tuple[Digest, Digest]]
    """Before and now."""

    failed: dict[PublicName, str]
    """Those that stay as they were, since upstream could not tell, and why."""


async def missing(client: UpstreamClient, lock: ImageLock) -> list[PublicName]:
    """Return the images that their upstreams say they have no more.

    An upstream that cannot be asked says nothing, and is asked once: a lock is replayed without a
    network, too.
    """
    unreachable: set[RegistryHost] = set()
    gone: list[PublicName] = []

    async def ask(image: PublicName) -> None:
        host = image.name.host
        if host in unreachable:
            return
        try:
            await client.head(image.name, lock.images[image].digest)
        except ManifestHidden:
            return
        except ManifestUnknown:
            gone.append(image)
        except RegistryError:
            unreachable.add(host)

    await _each(sorted(lock.images, key=str), ask)
    return sorted(gone, key=str)


async def update(client: UpstreamClient, lock: ImageLock, names: Iterable[str]) -> LockUpdate:
    """Ask upstreams what the tags of some names are now; of all of them where none is given."""
    chosen = _chosen(lock, list(names))
    images = dict(lock.images)
    moved: dict[PublicName, tuple[Digest, Digest]] = {}
    failed: dict[PublicName, str] = {}
    today = datetime.now(timezone.utc).date().isoformat()

    async def ask(image: PublicName) -> None:
        before = images[image]
        try:
            now = await client.head(image.name, image.tag)
            if now.digest == before.digest:
                return
            platforms: tuple[str, ...] = ()
            if now.media_type in INDEXES:
                platforms = index_platforms((await client.manifest(image.name, now.digest)).raw)
        except RegistryError as error:
            failed[image] = error.message
            return
        moved[image] = before.digest, now.digest
        images[image] = LockedImage(
            now.digest, now.media_type, platforms, str(image.name.host), today
        )

    await _each(chosen, ask)
    return LockUpdate(replace(lock, images=images), moved, failed)


def told_missing(lock: ImageLock, gone: list[PublicName]) -> str:
    """Return the line that names all images which upstreams have no more."""
    listed = ", ".join(f"{name}@{lock.images[name].digest}" for name in gone)
    return (
        f"the lock {lock.source}: {len(gone)} of {len(lock.images)} images are no longer at their "
        f"upstreams, and pulling them fails unless this registry has them: {listed}"
    )


def _chosen(lock: ImageLock, names: list[str]) -> list[PublicName]:
    """Return the images that are named with their tags, or by their repositories alone."""
    if not names:
        return sorted(lock.images, key=str)
    found: set[PublicName] = set()
    for text in names:
        ones = [image for image in lock.images if _is_named(image, text)]
        if not ones:
            raise ConfigError(
                f"{text!a} is not in the lock {lock.source}; name an image as it stands there"
            )
        found.update(ones)
    return sorted(found, key=str)


def _is_named(image: PublicName, text: str) -> bool:
    tagged = text if ":" in text.rpartition("/")[2] else f"{text}:{image.tag}"
    try:
        return PublicName.parse(tagged) == image
    except RegistryError:
        return False


async def _each(images: list[PublicName], ask: Callable[[PublicName], Awaitable[None]]) -> None:
    """Ask about all images, some at once."""
    waiting = iter(images)

    async def worker() -> None:
        for image in waiting:
            await ask(image)

    await asyncio.gather(*(worker() for _number in range(_TOGETHER)))
