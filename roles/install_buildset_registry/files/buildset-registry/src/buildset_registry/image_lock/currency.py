# SPDX-License-Identifier: Apache-2.0
"""The comparison of a lock with its upstreams: what is gone there, and what a tag is now.

All of it is asked by HEAD, which no registry counts; a manifest is fetched where its tag moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
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


@dataclass(slots=True)
class MissingImages:
    """The images that upstreams have no more, as far as they were asked."""

    lock: ImageLock
    gone: list[PublicName] = field(default_factory=list)
    asked: int = 0

    async def look(self, client: UpstreamClient, seconds: float) -> None:
        """Ask for all images, for so many seconds at most.

        An upstream that cannot be asked says nothing, and is asked once: a lock is replayed without
        a network, too.
        """
        unreachable: set[RegistryHost] = set()

        async def ask(image: PublicName) -> None:
            if image.name.host not in unreachable:
                try:
                    await client.head(image.name, self.lock.images[image].digest)
                except ManifestHidden:
                    pass
                except ManifestUnknown:
                    self.gone.append(image)
                except RegistryError:
                    unreachable.add(image.name.host)
            self.asked += 1

        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_each(sorted(self.lock.images, key=str), ask), seconds)

    def told(self) -> str | None:
        """Return the line that names all of them; None where there are none."""
        if not self.gone:
            return None
        images = self.lock.images
        listed = ", ".join(f"{name}@{images[name].digest}" for name in sorted(self.gone, key=str))
        rest = len(images) - self.asked
        later = f"; {rest} more were not asked about in time" if rest else ""
        return (
            f"the lock {self.lock.source}: {len(self.gone)} of {len(images)} images are no longer "
            "at their upstreams, and pulling them fails unless this registry has them: "
            f"{listed}{later}"
        )


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
