# SPDX-License-Identifier: Apache-2.0
"""Upload sessions of the store on disk: in memory while nothing has to outlive the process."""

import asyncio
import contextlib
import errno
import os
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from buildset_registry.errors import BlobUploadInvalid, BlobUploadUnknown, DigestInvalid
from buildset_registry.http.asgi import ClientLeft
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, UploadId
from buildset_registry.store.filesystem.disk import Disk
from buildset_registry.store.filesystem.store import FilesystemStore
from buildset_registry.store.filesystem.uploads import FileUploads

from tests.unit.store.blobs import broken, pieces

NAME = RepositoryName("org/app")
ONE = Digest.of(b"one")
LARGE = bytes(100_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
async def store(folder: Path) -> AsyncIterator[FilesystemStore]:
    async with contextlib.aclosing(FilesystemStore(folder)) as made:
        yield made


def sessions(folder: Path) -> list[Path]:
    return list(folder.glob("docker/registry/v2/repositories/**/_uploads/*"))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_small_blob_in_one_request_has_no_session_on_disk(
    store: FilesystemStore, folder: Path, algorithm: str
) -> None:
    """Neither while it comes nor later; what has another digest is refused, and ends it."""
    upload = await store.uploads.create(NAME)
    digest = Digest.of(b"one", algorithm)
    await upload.append(pieces(b"on", b"e"), last=digest)
    assert not sessions(folder)
    await upload.commit(digest)
    assert not sessions(folder)
    assert await store.blobs.read(digest) == b"one"
    refused = await store.uploads.create(NAME)
    await refused.append(pieces(b"two"), last=digest)
    with pytest.raises(DigestInvalid):
        await refused.commit(digest)
    for ended in (upload, refused):
        with pytest.raises(BlobUploadUnknown):
            await store.uploads.resume(NAME, ended.id)


async def test_a_large_blob_in_one_request_does_not_stay_in_memory(
    store: FilesystemStore, folder: Path
) -> None:
    """From the piece on with which it is large."""
    upload = await store.uploads.create(NAME)
    await upload.append(pieces(LARGE[:60_000], LARGE[60_000:]), last=Digest.of(LARGE))
    (session,) = sessions(folder)
    assert (session / "data").read_bytes() == LARGE
    await upload.commit(Digest.of(LARGE))
    assert not sessions(folder)
    assert await store.blobs.size(Digest.of(LARGE)) == len(LARGE)


@pytest.mark.parametrize("last", [ONE, None], ids=["the last request", "more may follow"])
async def test_what_arrived_before_a_client_left_outlives_the_process(
    folder: Path, last: Digest | None
) -> None:
    """The client asks how much that is, and goes on."""
    async with contextlib.aclosing(FilesystemStore(folder)) as store:
        upload = await store.uploads.create(NAME)
        with pytest.raises(ClientLeft):
            await upload.append(broken(ClientLeft(), b"on"), last=last)
        assert (await store.uploads.resume(NAME, upload.id)).size == 2
    async with contextlib.aclosing(FilesystemStore(folder)) as store:
        again = await store.uploads.resume(NAME, upload.id)
        assert again.size == 2
        await again.append(pieces(b"e"), last=ONE)
        await again.commit(ONE)
        assert await store.blobs.read(ONE) == b"one"


async def test_what_arrived_before_the_disk_failed_can_be_asked_for(
    store: FilesystemStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob that was whole is not in vain, and who is told of it can rely on it."""

    async def full(*_arguments: object) -> None:
        raise OSError("no space")

    upload = await store.uploads.create(NAME)
    await upload.append(pieces(b"one"), last=ONE)
    with monkeypatch.context() as patch:
        patch.setattr("buildset_registry.store.filesystem.disk.Disk.write", full)
        with pytest.raises(OSError, match="no space"):
            await upload.commit(ONE)
    assert (sessions(folder)[0] / "data").read_bytes() == b"one"
    again = await store.uploads.resume(NAME, upload.id)
    assert again.size == 3
    await again.commit(ONE)
    assert await store.blobs.read(ONE) == b"one"
    assert not sessions(folder)


async def test_an_empty_session_outlives_the_process(folder: Path) -> None:
    """Though nothing of it is on disk; one that ended after the restart has ended."""
    async with contextlib.aclosing(FilesystemStore(folder)) as store:
        begun = [await store.uploads.create(NAME) for _ in range(2)]
        await asyncio.sleep(0.01)
    async with contextlib.aclosing(FilesystemStore(folder)) as store:
        one, two = [await store.uploads.resume(NAME, upload.id) for upload in begun]
        await one.append(pieces(b"one"))
        await one.commit(ONE)
        await two.cancel()
        for upload in (one, two):
            with pytest.raises(BlobUploadUnknown):
                await store.uploads.resume(NAME, upload.id)


async def test_a_session_that_a_crash_left_half_made_is_made_again(folder: Path) -> None:
    """Its folder was there, and not yet the file for what arrives."""
    async with contextlib.aclosing(FilesystemStore(folder)) as store:
        upload = await store.uploads.create(NAME)
        upload.save()
        (session,) = sessions(folder)
        (session / "data").unlink()
        await asyncio.sleep(0.01)
    async with contextlib.aclosing(FilesystemStore(folder)) as store:
        again = await store.uploads.resume(NAME, upload.id)
        await again.append(pieces(b"one"))
        assert (session / "data").read_bytes() == b"one"
        await again.commit(ONE)
        assert await store.blobs.read(ONE) == b"one"


async def test_who_asks_while_a_blob_comes_can_rely_on_the_answer(
    store: FilesystemStore, folder: Path
) -> None:
    """What is told to have arrived is on disk, and what comes later follows it there."""
    upload = await store.uploads.create(NAME)

    async def asked() -> AsyncIterator[bytes]:
        yield b"on"
        assert (await store.uploads.resume(NAME, upload.id)).size == 2
        assert (sessions(folder)[0] / "data").read_bytes() == b"on"
        yield b"e"

    await upload.append(asked(), last=ONE)
    await upload.commit(ONE)
    assert await store.blobs.read(ONE) == b"one"
    assert not sessions(folder)


def made_at(when: float, monkeypatch: pytest.MonkeyPatch) -> UploadId:
    """Return an identifier that was made at a time."""
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: int(when * 1e9))
        return UploadId.new()


async def test_what_no_process_began_is_no_session(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made too long ago or after the start, or not telling when."""
    strange = [
        made_at(time.time() - 7200, monkeypatch),
        made_at(time.time() + 1, monkeypatch),
        UploadId(uuid.uuid4()),
    ]
    for upload_id in strange:
        with pytest.raises(BlobUploadUnknown):
            await store.uploads.resume(NAME, upload_id)
    assert (await store.uploads.resume(NAME, made_at(time.time() - 60, monkeypatch))).size == 0


async def test_sessions_without_content_do_not_fill_the_memory(
    folder: Path,
) -> None:
    """Those begun longest ago go to the disk, and are found there."""
    disk = Disk(folder)
    uploads = FileUploads(folder, disk, kept_sessions=2)
    begun = [await uploads.create(NAME) for _ in range(3)]
    ended = await uploads.create(NAME)
    await ended.cancel()
    await uploads.create(NAME)
    await uploads.create(NAME)
    assert {path.name for path in sessions(folder)} == {str(upload.id) for upload in begun}
    (session,) = (path for path in sessions(folder) if path.name == begun[0].id)
    assert (session / "startedat").read_text() == time.strftime(
        "%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun[0].begun)
    )
    found = await uploads.resume(NAME, begun[0].id)
    await found.append(pieces(b"one"), last=ONE)
    await found.commit(ONE)
    assert len(await uploads.all()) == 4
    disk.close()


async def test_an_upload_outlives_the_process(folder: Path) -> None:
    """After a restart it goes on from the size on disk, with the right digest."""
    async with contextlib.aclosing(FilesystemStore(folder)) as store:
        upload = await store.uploads.create(NAME)
        await upload.append(pieces(b"on"))
    async with contextlib.aclosing(FilesystemStore(folder)) as store:
        again = await store.uploads.resume(NAME, upload.id)
        assert again.size == 2
        await again.append(pieces(b"e"))
        await again.commit(ONE)
        assert await store.blobs.read(ONE) == b"one"


async def test_of_a_write_that_failed_half_way_nothing_stays(
    store: FilesystemStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk: the offset that the client is told is what the file has."""
    upload = await store.uploads.create(NAME)
    await upload.append(pieces(LARGE))
    real = os.pwrite

    def half(descriptor: int, content: bytes, offset: int) -> int:
        if offset > len(LARGE):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, content[:50_000], offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", half)
        with pytest.raises(OSError, match="No space left"):
            await upload.append(pieces(LARGE))
    again = await store.uploads.resume(NAME, upload.id)
    (session,) = sessions(folder)
    assert again.size == len(LARGE) == (session / "data").stat().st_size
    await again.append(pieces(LARGE))
    await again.commit(Digest.of(LARGE + LARGE))


async def test_an_upload_has_one_writer_however_many_others_begin(folder: Path) -> None:
    """A session that is not kept any more is found while a request has it."""
    disk = Disk(folder)
    uploads = FileUploads(folder, disk, kept_sessions=2)
    upload = await uploads.create(NAME)
    go = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield LARGE
        await go.wait()
        yield LARGE

    first = asyncio.create_task(upload.append(slow()))
    for _other in range(5):
        await asyncio.sleep(0)
        await uploads.create(NAME)
    second = await uploads.resume(NAME, upload.id)
    with pytest.raises(BlobUploadInvalid, match="another request"):
        await second.append(pieces(b"other"))
    go.set()
    await first
    assert (await uploads.resume(NAME, upload.id)).size == 2 * len(LARGE)
    disk.close()
