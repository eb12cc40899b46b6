# SPDX-License-Identifier: Apache-2.0
"""What is gathered: in memory it takes what it has taken of the budget, else there is a file."""

from __future__ import annotations

import tracemalloc

import pytest
from buildset_registry.errors import StorageFull
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.store.objects.blobs import BlobRules
from buildset_registry.store.objects.dialect import Abilities
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.parts import MemoryPart, PartBudget, TemporaryDisk
from buildset_registry.store.objects.store import ObjectStore

from tests.unit.store.blobs import pieces
from tests.unit.store.objects.imagined import ImaginedService

SIZE = 20_000
NAME = RepositoryName("org/app")


def test_a_part_of_tiny_pieces_takes_little_more_than_its_size() -> None:
    """A client chooses how small its chunks are (RFC 9112, 7.1)."""
    part = MemoryPart(PartBudget(SIZE), SIZE)
    tracemalloc.start()
    try:
        for number in range(SIZE // 2):
            part.add(b"%02d" % (number % 100))  # each an object of its own
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 2 * SIZE
    assert (part.size, b"".join(part.body().pieces)[:6]) == (SIZE, b"000102")


def test_the_pieces_of_a_large_upload_are_not_copied() -> None:
    """They come as the server reads them: up to 256 KiB each."""
    part, pieces = MemoryPart(PartBudget(2**20), 2**20), [bytes(2**18) for _number in range(4)]
    for piece in pieces:
        part.add(piece)
    assert all(one is piece for one, piece in zip(part.body().pieces, pieces, strict=True))


class NoMemory(ImaginedService):
    """A service whose parts are gathered in files, as they are where others take all memory."""

    abilities = Abilities(part_size=8, most_parts=100, memory=0)


class Disk(TemporaryDisk):
    """A disk of temporary files that is full at times."""

    is_full = False

    def require(self) -> None:
        if self.is_full:
            raise StorageFull


async def test_a_session_for_which_there_was_no_room_goes_on_when_there_is() -> None:
    """Another replica went on with it; nothing of what arrived is forgotten, or sent again."""
    service, disk = NoMemory(1), Disk()
    one, other = (ObjectStore(service, Keys(), BlobRules(), each) for each in (disk, None))
    upload = await one.uploads.create(NAME)
    await upload.append(pieces(b"abc"))
    await (await other.uploads.resume(NAME, upload.id)).append(pieces(b"de"))
    disk.is_full = True
    with pytest.raises(StorageFull):
        await one.uploads.resume(NAME, upload.id)
    disk.is_full = False
    again = await one.uploads.resume(NAME, upload.id)
    assert again.size == 5
    await again.append(pieces(b"fg"))
    await again.commit(Digest.of(b"abcdefg"))
    assert await one.blobs.size(Digest.of(b"abcdefg")) == 7
