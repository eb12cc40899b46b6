# SPDX-License-Identifier: Apache-2.0
"""What upstreams have no more of a lock: all of it, in bounded time."""

from __future__ import annotations

import asyncio

from buildset_registry.errors import ManifestHidden, ManifestUnknown, UpstreamFailed
from buildset_registry.image_lock.currency import MissingImages
from buildset_registry.image_lock.document import ImageLock, LockedImage, PublicName
from buildset_registry.oci.descriptor import Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Reference, RepositoryName
from buildset_registry.upstream.client import UpstreamClient
from buildset_registry.upstream.hosts import Upstreams

SOME = LockedImage(Digest.of(b"some"))


def lock_of(*names: str) -> ImageLock:
    return ImageLock({PublicName.parse(name): SOME for name in names}, "some.lock.json")


class Answering(UpstreamClient):
    """A client whose upstreams answer by the name of the repository."""

    def __init__(self) -> None:
        super().__init__(Upstreams([]))
        self.asked: list[RepositoryName] = []

    async def head(self, name: RepositoryName, reference: Reference) -> Descriptor:
        self.asked.append(name)
        assert reference == SOME.digest
        await asyncio.sleep(3600 if "slow" in name else 0)
        errors = {"gone": ManifestUnknown, "hidden": ManifestHidden, "down": UpstreamFailed}
        for word, error in errors.items():
            if word in name:
                raise error
        return Descriptor("text/plain", SOME.digest, 1)


async def test_all_that_is_gone_is_told_in_one_line() -> None:
    """What is hidden, or at an upstream that is down, may be there; that one is asked once."""
    down = [f"down.example.com/app{number}:1" for number in range(100)]
    lock = lock_of("quay.io/gone/a:1", "quay.io/here/a:1", "quay.io/hidden/a:1", "gone/b:2", *down)
    client, found = Answering(), MissingImages(lock)
    await found.look(client, 60)
    assert found.told() == (
        "the lock some.lock.json: 2 of 104 images are no longer at their upstreams, and pulling "
        f"them fails unless this registry has them: docker.io/gone/b:2@{SOME.digest}, "
        f"quay.io/gone/a:1@{SOME.digest}"
    )
    assert len(client.asked) < 40


async def test_an_upstream_that_does_not_answer_is_waited_for_as_long_as_is_allowed() -> None:
    """What is known by then is told, and how much is not."""
    found = MissingImages(lock_of("quay.io/gone/a:1", "quay.io/slow/a:1", "quay.io/slow/b:1"))
    await found.look(Answering(), 0.05)
    told = found.told()
    assert told is not None
    assert told.endswith("; 2 more were not asked about in time")
    quiet = MissingImages(lock_of("quay.io/slow/a:1"))
    await quiet.look(Answering(), 0.05)
    assert quiet.told() is None
