# SPDX-License-Identifier: Apache-2.0
"""A session that is cancelled at one replica while its last request runs at another.

Whatever the order of what both ask the service: a blob that was acknowledged is there, what a
cancelled session brought is known nowhere, and nothing is left behind. Of a small blob, both may be
told that they did it: it is there then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from buildset_registry.errors import BlobUploadUnknown, RegistryError
from buildset_registry.oci.digest import Digest
from buildset_registry.store.base import Upload
from buildset_registry.store.objects.dialect import ObjectFailure

from tests.stores.buckets import Bucket
from tests.unit.store.blobs import pieces
from tests.unit.store.objects.test_kills import NAME, PART, Replica, bucket, config, resumed, two
from tests.unit.store.objects.test_staging import is_whole

__all__ = ["bucket", "config", "two"]

#: More requests than either of the two takes.
_MOST = 60
LAST = b"end"


class Interrupted:
    """Has something done in full before the n-th request of a replica."""

    def __init__(self, replica: Replica, number: int, doing: Callable[[], Awaitable[bool]]) -> None:
        self.met = self.outcome = False
        self._connection = replica.dialect._connection
        self._ask = self._connection.ask
        self._left, self._doing = number, doing
        self._connection.ask = self._counted

    async def _counted(self, request: object) -> object:
        self._left -= 1
        if self._left == 0:
            self.met = True
            self.outcome = await self._doing()
        return await self._ask(request)

    def ends(self) -> None:
        """Let all requests pass."""
        self._connection.ask = self._ask


async def done(doing: Awaitable[object]) -> bool:
    """Tell whether something was acknowledged."""
    try:
        await doing
    except (RegistryError, ObjectFailure):
        return False
    return True


async def finish(upload: Upload, digest: Digest) -> None:
    """Send the last request."""
    await upload.append(pieces(LAST), last=digest)
    await upload.commit(digest)


async def arrived(replica: Replica, upload: Upload) -> int:
    """Return how much a replica knows to have arrived in a session: nothing where it ended."""
    try:
        return (await resumed(replica, upload.id)).size
    except BlobUploadUnknown:
        return 0


@dataclass
class Race:
    """A session of two replicas: one ends it, the other cancels it."""

    finishing: Replica
    cancelling: Replica
    content: bytes

    @property
    def digest(self) -> Digest:
        """The digest of all that is sent."""
        return Digest.of(self.content + LAST)

    async def run(self, interrupted: str, number: int) -> tuple[bool, bool, bool]:
        """Do the one before a request of the other; tell whether that came, and what was told."""
        self.upload = await self.finishing.store.uploads.create(NAME)
        await self.upload.append(pieces(self.content))
        self.late = await resumed(self.cancelling, self.upload.id)
        if interrupted == "finish":
            other = Interrupted(self.finishing, number, self.cancel)
            stored, gone = await self.finish(), other.outcome
        else:
            other = Interrupted(self.cancelling, number, self.finish)
            gone, stored = await self.cancel(), other.outcome
        other.ends()
        return other.met, stored, gone

    async def finish(self) -> bool:
        """Send the last request."""
        return await done(finish(self.upload, self.digest))

    async def cancel(self) -> bool:
        """Cancel the session."""
        return await done(self.late.cancel())


@pytest.mark.parametrize("size", [8, PART + 8], ids=["small", "in-parts"])
@pytest.mark.parametrize("interrupted", ["finish", "cancel"])
async def test_a_session_that_is_cancelled_beside_its_commit(
    two: tuple[Replica, Replica], bucket: Bucket, interrupted: str, size: int
) -> None:
    """At each request of the one, the other is done in full."""
    told = []
    for number in range(1, _MOST):
        race = Race(*two, number.to_bytes(4, "big") * (size // 4))
        met, stored, gone = await race.run(interrupted, number)
        if not met:
            break
        told.append((stored, gone))
        for replica in two:
            whole = await is_whole(replica.store, race.digest, race.content + LAST)
            assert whole is stored, number
        if gone:
            with pytest.raises(BlobUploadUnknown):
                await resumed(two[1], race.upload.id)
            assert not await arrived(two[0], race.upload), number
    assert not met
    assert any(stored for stored, _gone in told)
    assert any(gone for _stored, gone in told)
    # What may be a blob where it arrived is one, or is cancelled.
    assert size < PART or (True, True) not in told
    for replica in two:
        await replica.store.aclose()
    assert bucket.leftovers() == []
