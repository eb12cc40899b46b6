# SPDX-License-Identifier: Apache-2.0
"""Leases in a collection: what tokens for single images name stays until they end."""

from __future__ import annotations

from contextlib import suppress

from buildset_registry.gc.state import Collection
from buildset_registry.retention.leases import LeasedImages


async def begin_leases(collection: Collection) -> None:
    """Find out what is leased, and forget what is over.

    Who cannot know it removes nothing: the collection breaks off, and is tried again.
    """
    collection.leased = await leased_now(collection)
    if collection.rules.leases is not None and not collection.report.dry_run:
        with suppress(OSError):
            await collection.rules.leases.prune(collection.age)


async def leased_now(collection: Collection) -> LeasedImages:
    """Return what is leased at this moment, by whichever replica."""
    leases = collection.rules.leases
    return LeasedImages() if leases is None else await leases.active(collection.age)
