# SPDX-License-Identifier: Apache-2.0
"""A lock rules what is cached where no upstream is asked, too, as at the push endpoint."""

from collections.abc import Awaitable, Callable

import pytest
from buildset_registry.errors import ManifestUnknown
from buildset_registry.image_lock.document import ImageLock, LockedImage, PublicName
from buildset_registry.image_lock.table import LockedTags
from buildset_registry.oci.digest import Digest
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem.store import FilesystemStore

from tests.unit.upstream.lab import MANIFEST, NAME, V1, V1_PATH, Server, manifest

NEWER = MANIFEST + b"\n"
ASKED: dict[str, Callable[[Registry], Awaitable[object]]] = {
    "GET": lambda registry: registry.manifest(NAME, V1),
    "HEAD": lambda registry: registry.describe(NAME, V1),
}


@pytest.fixture(params=ASKED)
def ask(request: pytest.FixtureRequest) -> Callable[[Registry], Awaitable[object]]:
    """Ask for the tag, in either way."""
    return ASKED[request.param]


def locked(*digests: Digest, strict: bool = False) -> list[LockedTags]:
    """Return the table of a lock in which the tag is a digest, or is not."""
    images = {PublicName(NAME, V1): LockedImage(one) for one in digests}
    return [LockedTags(ImageLock(images), strict=strict)]


async def test_a_strict_lock_hides_what_was_cached_before_it(
    registry: Registry, store: FilesystemStore, ask: Callable[[Registry], Awaitable[object]]
) -> None:
    """Whoever may push would get an image by it that was never tested."""
    cached = await registry.manifest(NAME, V1)
    pushing = Registry(store, fixed=locked(strict=True))
    with pytest.raises(ManifestUnknown, match=r"v1 is not in the lock .*, and strict refuses"):
        await ask(pushing)
    assert (await pushing.manifest(NAME, cached.digest)).raw == cached.raw


async def test_what_is_not_here_is_no_affair_of_a_lock(
    store: FilesystemStore, ask: Callable[[Registry], Awaitable[object]]
) -> None:
    """Clients that push ask for the tag first."""
    with pytest.raises(ManifestUnknown, match="has no manifest v1"):
        await ask(Registry(store, fixed=locked(strict=True)))


@pytest.mark.parametrize("strict", [False, True], ids=["prefer", "strict"])
async def test_a_tag_is_what_the_lock_says_or_unknown(
    registry: Registry,
    store: FilesystemStore,
    quay: Server,
    ask: Callable[[Registry], Awaitable[object]],
    strict: bool,
) -> None:
    """Not what the registry pinned before it was given the lock."""
    old, new = Digest.of(MANIFEST), Digest.of(NEWER)
    await registry.manifest(NAME, V1)
    pushing = Registry(store, fixed=locked(new, strict=strict))
    with pytest.raises(ManifestUnknown):
        await ask(pushing)
    quay.on(V1_PATH.replace("v1", str(new)), manifest(NEWER))
    await registry.manifest(NAME, new)
    assert (await pushing.describe(NAME, V1)).digest == new
    assert (await Registry(store).describe(NAME, V1)).digest == old
