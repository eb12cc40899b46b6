# SPDX-License-Identifier: Apache-2.0
"""A store in memory lets go of what nobody needs, and holds the rest once."""

import errno
import gc
import math
import os
import tracemalloc
from collections.abc import AsyncIterator, Iterator

import pytest
from buildset_registry.errors import DigestInvalid
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.store.base import Upload
from buildset_registry.store.memory import MemoryStore
from buildset_registry.store.memory.arena import Arena

from tests.unit.store.blobs import content_of, pieces

NAME = RepositoryName("org/app")
MIB = 1024 * 1024
PIECE, PIECES = MIB, 32
DIGEST = Digest.of(bytes(PIECE) * PIECES)


@pytest.fixture(params=["arena", "none"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """A store where the system has memory beside Python's, and where it has not."""
    if request.param == "none":
        monkeypatch.delattr(os, "memfd_create")
    return MemoryStore()


async def test_large_content_is_beside_the_memory_of_python() -> None:
    """What C's allocator gave to threads is not free for the system when it is freed."""
    store = MemoryStore()
    upload = await store.uploads.create(NAME)
    await upload.append(much())
    assert store.blobs.arena.held == PIECE * PIECES
    await upload.cancel()
    del upload
    assert store.blobs.arena.held == 0


@pytest.fixture
def held() -> Iterator[None]:
    """Count what is allocated from now on."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


def mib_held(store: MemoryStore) -> float:
    gc.collect()
    return (tracemalloc.get_traced_memory()[0] + store.blobs.arena.held) / MIB


async def much(piece: int = PIECE) -> AsyncIterator[bytes]:
    """Yield 32 MiB, each piece of it new."""
    for _ in range(PIECE * PIECES // piece):
        yield bytes(piece)


async def arrive(store: MemoryStore, upload: Upload) -> None:
    await upload.append(much())
    assert mib_held(store) > PIECES - 1


@pytest.mark.parametrize("end", ["cancelled", "expired", "refused", "there already"])
@pytest.mark.usefixtures("held")
async def test_an_upload_that_has_ended_holds_nothing(store: MemoryStore, end: str) -> None:
    """Though who began it still has it; a blob that is there already is held once."""
    upload = await store.uploads.create(NAME)
    await arrive(store, upload)
    if end == "cancelled":
        await upload.cancel()
    elif end == "expired":
        (state,) = await store.uploads.all()
        assert await store.uploads.expire(state)
    elif end == "refused":
        with pytest.raises(DigestInvalid):
            await upload.commit(Digest.of(b"another"))
    else:
        await upload.commit(DIGEST)
        again = await store.uploads.create(NAME)
        await arrive(store, again)
        assert mib_held(store) > 2 * PIECES - 1
        await again.commit(DIGEST)
        assert mib_held(store) < PIECES + 1
        return
    assert mib_held(store) < 1


@pytest.mark.parametrize("piece", [PIECE, 1000], ids=["large pieces", "small pieces"])
@pytest.mark.usefixtures("held")
async def test_a_blob_is_held_once_from_its_arrival_to_the_answer(
    store: MemoryStore, piece: int
) -> None:
    """Neither taking it in nor handing it out makes a copy of the whole."""
    upload = await store.uploads.create(NAME)
    await upload.append(much(piece))
    size = PIECE * PIECES // piece * piece
    digest = Digest.of(bytes(size))
    tracemalloc.reset_peak()
    await upload.commit(digest)
    blob = await store.blobs.open(digest)
    assert blob
    assert sum([len(chunk) async for chunk in blob.chunks(0, size)]) == size
    assert (tracemalloc.get_traced_memory()[1] + store.blobs.arena.held) / MIB < PIECES + 3


@pytest.mark.usefixtures("held")
async def test_a_blob_that_was_swept_is_freed_with_its_last_reader(store: MemoryStore) -> None:
    """Until then the reader has all of it."""
    upload = await store.uploads.create(NAME)
    await arrive(store, upload)
    await upload.commit(DIGEST)
    del upload
    blob = await store.blobs.open(DIGEST)
    assert blob
    assert await store.blobs.sweep(DIGEST, math.inf, math.inf)
    assert mib_held(store) > PIECES - 1
    assert sum([len(chunk) async for chunk in blob.chunks(0, blob.size)]) == PIECE * PIECES
    del blob
    assert mib_held(store) < 1


@pytest.mark.usefixtures("held")
async def test_a_download_that_ended_holds_nothing(store: MemoryStore) -> None:
    """It has no session; a reader keeps what it reads until it is closed."""
    upload = await store.uploads.ingest(DIGEST)
    await arrive(store, upload)
    reader = upload.reader()
    await upload.cancel()
    assert mib_held(store) > PIECES - 1
    reader.close()
    assert mib_held(store) < 1


@pytest.mark.usefixtures("held")
async def test_asking_for_repositories_keeps_nothing_of_them(store: MemoryStore) -> None:
    """Everybody may ask for names that nobody pushed to; what was emptied is gone, too."""
    digest, tag = Digest.of(b"one"), Tag("v1")
    for number in range(10_000):
        index = store.pushed(RepositoryName(f"org/app-{number}"))
        assert not await index.manifests.has(digest)
        if number < 100:
            await index.referrers.add(digest, digest)
            await index.tags.set(tag, digest)
            assert await index.tags.remove(tag)
            assert await index.referrers.remove(digest, digest)
    assert await store.repositories() == []
    assert mib_held(store) < 1


async def test_two_who_ask_for_a_new_repository_get_the_same(store: MemoryStore) -> None:
    """What one adds while the other waits is not lost; nor is what is added after all was gone."""
    first, second = store.pushed(NAME), store.pushed(NAME)
    await first.layers.add(DIGEST)
    assert await second.layers.has(DIGEST)
    assert await second.layers.remove(DIGEST)
    assert await store.repositories() == []
    await first.tags.set(Tag("v1"), DIGEST)
    assert await store.repositories() == [NAME]
    assert await store.pushed(NAME).tags.all() == ["v1"]


@pytest.mark.parametrize("size", [40_000, MIB], ids=["gathered", "large"])
async def test_a_piece_for_which_there_is_no_room_leaves_no_hole(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The client is told so, and goes on from what was kept; nobody reads another piece for it."""
    store, content = MemoryStore(), os.urandom(4 * size)
    upload = await store.uploads.create(NAME)
    await upload.append(pieces(content[:size]))
    with monkeypatch.context() as full:

        def write(_descriptor: int, _data: bytes, _offset: int) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        full.setattr(os, "pwrite", write)
        with pytest.raises(OSError, match="No space"):
            await upload.append(pieces(content[size : 2 * size]))
    again = await store.uploads.resume(NAME, upload.id)
    assert again.size == size
    await again.append(pieces(content[size : 3 * size], content[3 * size :]))
    await again.commit(Digest.of(content))
    blob = await store.blobs.open(Digest.of(content))
    assert blob
    assert await content_of(blob) == content


async def test_what_was_not_written_whole_takes_nothing_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who holds its error until others have come takes no room of theirs when he lets go."""
    arena, one, two = Arena(), os.urandom(MIB), os.urandom(MIB)
    with monkeypatch.context() as full:

        def write(_descriptor: int, _data: bytes, _offset: int) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        full.setattr(os, "pwrite", write)
        with pytest.raises(OSError, match="No space") as raised:
            arena.keep(one)
    kept = arena.keep(two)
    del raised
    gc.collect()
    assert kept[:] == two
