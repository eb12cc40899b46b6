# SPDX-License-Identifier: Apache-2.0
"""The tags of a lock, for the look-up: each means the digest that it had, whatever upstream says.

What a lock does not list is upstream's affair where it is preferred, and unknown where it is
strict (decision 0047). What clients ask for by digest is what it is, and no lock's affair.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from buildset_registry.errors import ConfigError, ManifestUnknown
from buildset_registry.image_lock.document import ImageLock, PublicName
from buildset_registry.oci.hosts import RegistryHost
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.sources import FixedTag


@dataclass(frozen=True, slots=True)
class LockedTags:
    """The tags of a lock."""

    lock: ImageLock
    strict: bool = False
    """Whether upstreams are not asked about other tags."""

    def find(self, name: RepositoryName, tag: Tag) -> FixedTag | None:
        """Return what a tag means; None where upstream says it."""
        image = PublicName(name.canonical, tag)
        found = self.lock.images.get(image)
        if found is not None:
            return FixedTag(found.digest, f"the lock {self.lock.source}")
        if self.strict:
            raise ManifestUnknown(
                f"{image} is not in the lock {self.lock.source}, and strict refuses what is not; "
                "push it to this registry, add it to the lock, or use lock mode prefer"
            )
        return None


def check_configured(lock: ImageLock, upstreams: Collection[RegistryHost]) -> None:
    """Refuse a lock with images of registries that are not pulled through."""
    missing = sorted({name.name.host for name in lock.images} - set(upstreams))
    if missing:
        first = next(name for name in lock.images if name.name.host == missing[0])
        others = f" (nor are {', '.join(missing[1:6])})" if missing[1:] else ""
        raise ConfigError(
            f"the lock {lock.source}: images[{str(first)!r}]: {missing[0]} is not among the "
            f"upstreams of this registry{others}; add it to them, or take the image out"
        )
