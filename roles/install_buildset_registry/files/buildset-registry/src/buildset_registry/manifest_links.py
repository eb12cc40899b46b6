# SPDX-License-Identifier: Apache-2.0
"""The links of a repository that make it have a manifest, written and removed together.

Its revision, its media type, what refers to its subject, and the tags that point to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest, stored_media_type
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.pacing import aside, paced
from buildset_registry.parallel import all_of
from buildset_registry.store.base import RepositoryIndex, Store, TagTarget

#: How often a tag is looked at that somebody is setting, or whose time a backup has changed.
_TRIES = 3


async def is_linked(index: RepositoryIndex, digest: Digest) -> bool:
    """Tell whether a repository has a blob, be it a layer or a manifest."""
    return await index.layers.has(digest) or await index.manifests.has(digest)


async def link_manifest(index: RepositoryIndex, manifest: Manifest) -> None:
    """Link a stored manifest in a repository, as what it is and as what refers to its subject."""
    told = await aside(len(manifest.raw), partial(stored_media_type, manifest.raw))
    kept = await index.manifests.media_type(manifest.digest)
    # One that is kept may be gone by now, with the image that another process has deleted.
    if manifest.media_type != told or kept not in (None, told):
        await index.manifests.set_media_type(manifest.digest, manifest.media_type)
    await index.manifests.add(manifest.digest)
    if manifest.subject is not None:
        await index.referrers.note(manifest.subject.digest, manifest.digest, manifest.listed)
        await index.referrers.add(manifest.subject.digest, manifest.digest)


async def link_image(index: RepositoryIndex, manifest: Manifest, tags: Iterable[Tag]) -> None:
    """Link a stored manifest, and let tags point to it."""
    await link_manifest(index, manifest)
    for tag in tags:
        await retire(index, tag)
        await index.tags.set(tag, manifest.digest)


async def retire(index: RepositoryIndex, tag: Tag) -> None:
    """Let the time of a manifest without a tag begin when it loses the tag."""
    target = await index.tags.get(tag)
    if target is not None:
        await index.manifests.use(target.digest)


async def stands(index: RepositoryIndex, digest: Digest, tags: Iterable[Tag]) -> bool:
    """Tell whether all that a push has linked is there still, or is somebody else's by now."""
    found = await all_of(index.manifests.remains(digest), *map(index.tags.get, tags))
    return all(found)


async def delete_links(
    store: Store,
    name: RepositoryName,
    index: RepositoryIndex,
    digest: Digest,
    subject: Digest | None = None,
) -> None:
    """Undo ``link_manifest``, and remove the tags that point to a manifest.

    Whoever calls has the manifest's turn, so that no tag begins to point to it, unless by another
    process: that finds out when it looks whether its push ``stands``, or its tag is seen here.
    """
    tags = await untag(store, name, index, digest)
    if subject is not None:
        await index.referrers.remove(subject, digest)
    await index.manifests.remove(digest)
    if store.space.replicas is not None:
        # One that was set again while it was removed may lack what it is found by.
        await untag(store, name, index, digest, also=tags)


async def untag(
    store: Store,
    name: RepositoryName,
    index: RepositoryIndex,
    digest: Digest,
    also: Sequence[Tag] = (),
) -> Sequence[Tag]:
    """Remove the tags that point to a manifest, and none that a push has just moved.

    Those are looked at that may do so, ``also`` others that the store may not know of; returned are
    all of them.
    """
    tags = sorted({*also, *await index.tags.of(digest)})
    async for tag in paced(tags):
        if await _pointing(index, tag, digest):
            async with store.turns.tag(name, tag):
                await _remove(index, tag, digest)
    return tags


async def _remove(index: RepositoryIndex, tag: Tag, digest: Digest) -> None:
    """Remove a tag as long as it points to a manifest, in the end also one of a wrong time."""
    for _try in range(_TRIES):
        target = await _pointing(index, tag, digest)
        if target is None or await index.tags.expire(tag, target):
            return
    if await _pointing(index, tag, digest):
        await index.tags.remove(tag)


async def _pointing(index: RepositoryIndex, tag: Tag, digest: Digest) -> TagTarget | None:
    target = await index.tags.get(tag)
    return target if target is not None and target.digest == digest else None


async def unlink_manifest(
    index: RepositoryIndex, digest: Digest, subject: Digest | None, used_before: float
) -> bool:
    """Undo ``link_manifest`` unless the manifest was used at or after a time.

    Whoever calls has the manifest's turn, or a push in between would lose half of what it did.
    """
    if not await index.manifests.expire(digest, used_before):
        return False
    if subject is not None:
        await index.referrers.remove(subject, digest)
    return True
