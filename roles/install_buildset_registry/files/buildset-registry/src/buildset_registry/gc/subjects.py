# SPDX-License-Identifier: Apache-2.0
"""Subjects that live elsewhere than beside what refers to them.

A signature is pushed for an image that was pulled through, or that upstream alone has, or that was
pushed under the other name of its repository. It lives as long as one of these does: what a job
pushed is never removed because a cache was.
"""

from __future__ import annotations

from collections.abc import Iterable

from buildset_registry.errors import UpstreamBusy, UpstreamFailed
from buildset_registry.gc.state import Collection
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName

#: Subjects of which upstreams are asked in one collection; the others are taken to be there.
_MOST_ASKED = 1000


async def living_elsewhere(
    collection: Collection, name: RepositoryName, subjects: Iterable[Digest]
) -> set[Digest]:
    """Return those of a repository's subjects that are cached, at upstream, or under its other
    name."""
    return {
        subject
        async for subject in collection.paced("", sorted(subjects, key=str))
        if await _is_stored(collection, name, subject)
        or await _is_at_upstream(collection, name, subject)
    }


async def _is_stored(collection: Collection, name: RepositoryName, subject: Digest) -> bool:
    store = collection.store
    others = [store.pushed(one) for one in name.names if one != name]
    for index in (*others, store.cached(name.canonical)):
        # Not ``has``, which would count as a use of what is cached.
        if await index.manifests.target(subject) is not None:
            return True
    return False


async def _is_at_upstream(collection: Collection, name: RepositoryName, subject: Digest) -> bool:
    """Ask upstream; one that cannot be asked, or was asked enough, may have it."""
    if name.host in collection.silent or collection.asked >= _MOST_ASKED:
        return True
    collection.asked += 1
    try:
        return await collection.at_upstream(name, subject)
    except (UpstreamFailed, UpstreamBusy):
        collection.silent.add(name.host)
        return True
