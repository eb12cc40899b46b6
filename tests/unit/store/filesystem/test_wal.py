# SPDX-License-Identifier: Apache-2.0
"""What a power cut takes: files that were not synced; what is left is the log."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.errors import ConfigError
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.store.filesystem import disk, files, wal, wal_format
from buildset_registry.store.filesystem.files import SyncFailed
from buildset_registry.store.filesystem.store import FilesystemStore
from buildset_registry.store.filesystem.wal import WriteAheadLog
from buildset_registry.store.filesystem.wal_format import Kind

APP, V1 = RepositoryName.parse("app"), Tag.parse("v1")
SMALL, LARGE = b"small", b"large" * 100_000


async def push(store: FilesystemStore, content: bytes) -> Digest:
    """Push a blob and link it."""

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    digest = Digest.of(content)
    upload = await store.uploads.create(APP)
    await upload.append(pieces())
    await upload.commit(digest)
    await store.pushed(APP).layers.add(digest)
    return digest


def after_a_cut(storage: Path, into: Path, kept: Path | None = None) -> FilesystemStore:
    """Open what a power cut leaves: the logs, and of the files those that stood before."""
    if kept is None:
        into.mkdir()
    else:
        shutil.copytree(kept, into)
    shutil.rmtree(into / "log", ignore_errors=True)
    shutil.copytree(storage / "log", into / "log")
    return FilesystemStore(into)


async def test_all_that_was_acknowledged_is_there_after_a_cut(tmp_path: Path) -> None:
    """Blobs, manifests, links and tags come back from the log alone."""
    async with contextlib.aclosing(FilesystemStore(tmp_path / "a")) as store:
        first = await push(store, SMALL)
        manifest = Digest.of(b"{}")
        await store.blobs.put(manifest, b"{}")
        await store.pushed(APP).manifests.add(manifest)
        await store.pushed(APP).tags.set(V1, first)
        await store.pushed(APP).tags.set(V1, manifest)
        async with contextlib.aclosing(after_a_cut(tmp_path / "a", tmp_path / "b")) as found:
            assert await found.blobs.read(first) == SMALL
            assert await found.blobs.read(manifest) == b"{}"
            assert await found.pushed(APP).layers.has(first)
            assert await found.pushed(APP).manifests.has(manifest)
            target = await found.pushed(APP).tags.get(V1)
            assert target is not None
            assert target.digest == manifest
            assert await found.repositories() == [APP]
    assert list((tmp_path / "b" / "log").iterdir()) == []


async def test_what_was_removed_stays_so_after_a_cut(tmp_path: Path) -> None:
    """A link that was removed, and one that came again later; a tag of older times."""
    async with contextlib.aclosing(FilesystemStore(tmp_path / "a")) as store:
        await store.pushed(APP).tags.set(V1, Digest.of(SMALL))
    shutil.copytree(tmp_path / "a", tmp_path / "before")
    async with contextlib.aclosing(FilesystemStore(tmp_path / "a")) as store:
        gone, again = await push(store, SMALL), await push(store, b"other")
        layers = store.pushed(APP).layers
        assert await layers.remove(gone)
        assert await layers.remove(again)
        await layers.add(again)
        assert await store.pushed(APP).tags.remove(V1)
        left = after_a_cut(tmp_path / "a", tmp_path / "b", tmp_path / "before")
        async with contextlib.aclosing(left) as found:
            assert not await found.pushed(APP).layers.has(gone)
            assert await found.pushed(APP).layers.has(again)
            assert await found.pushed(APP).tags.get(V1) is None


async def test_a_large_blob_that_came_again_is_not_removed_after_a_cut(tmp_path: Path) -> None:
    """The collector's removal stands in the log, and the blob does not: it was synced itself."""
    async with contextlib.aclosing(FilesystemStore(tmp_path / "a")) as store:
        digest = await push(store, LARGE)
        assert await store.blobs.sweep(digest, float("inf"), float("inf"))
        assert await store.blobs.size(digest) is None
        await push(store, LARGE)
        kept = tmp_path / "kept"
        shutil.copytree(tmp_path / "a", kept, ignore=shutil.ignore_patterns("lock"))
        async with contextlib.aclosing(after_a_cut(tmp_path / "a", tmp_path / "b", kept)) as found:
            assert await found.blobs.size(digest) == len(LARGE)


async def test_a_frame_that_is_not_whole_ends_the_log(tmp_path: Path) -> None:
    """What came before it counts."""
    async with contextlib.aclosing(FilesystemStore(tmp_path / "a")) as store:
        await store.pushed(APP).layers.add(Digest.of(SMALL))
        (log,) = (tmp_path / "a" / "log").iterdir()
        whole = len(log.read_bytes().rstrip(b"\0"))
        await store.pushed(APP).layers.add(Digest.of(LARGE))
        torn = bytearray(log.read_bytes())
        torn[whole + 20] ^= 1
        log.write_bytes(torn)
        async with contextlib.aclosing(after_a_cut(tmp_path / "a", tmp_path / "b")) as found:
            assert await found.pushed(APP).layers.has(Digest.of(SMALL))
            assert not await found.pushed(APP).layers.has(Digest.of(LARGE))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[WriteAheadLog]:
    """A log of a storage in which nothing is."""
    (tmp_path / "log").mkdir()
    log = WriteAheadLog(tmp_path, tmp_path / "log", durable=True)
    yield log
    log.close()


async def test_those_who_wait_share_a_sync(
    log: WriteAheadLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many at once cost few syncs, and each change is made after that of its record."""
    synced: list[int] = []
    order: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda number: synced.append(number))
    changes = (
        log.change(Kind.WRITTEN, f"{tmp_path}/{one}", lambda: order.append(str(len(synced))))
        for one in range(100)
    )
    await asyncio.gather(*changes)
    assert 1 <= len(synced) <= 10
    assert order[0] >= "1"


async def test_an_old_log_goes_when_all_is_synced(tmp_path: Path) -> None:
    """Past a size the next one begins; so much of a log is ever read again."""
    (tmp_path / "log").mkdir()
    log = WriteAheadLog(tmp_path, tmp_path / "log", durable=True, large=100)
    for one in range(20):
        await log.change(Kind.WRITTEN, f"{tmp_path}/{one}", lambda: None, b"x" * 50)
    names = [int(path.name) for path in (tmp_path / "log").iterdir()]
    assert len(names) <= 3
    log.close()
    assert list((tmp_path / "log").iterdir()) == []


async def test_a_disk_that_fails_is_told_and_nothing_is_made(
    log: WriteAheadLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next change goes well again."""

    def fail(_number: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    made: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="Input/output"):
            await log.change(Kind.WRITTEN, f"{tmp_path}/a", lambda: made.append(1))
    assert made == []
    await log.change(Kind.WRITTEN, f"{tmp_path}/b", lambda: made.append(2))
    assert made == [2]
    told = [(kind, path) for kind, path, _content in _records_of(tmp_path)]
    assert told == [(Kind.REMOVED, "a"), (Kind.WRITTEN, "b")]  # a's own may be on the disk


@pytest.mark.parametrize("fails", ["the record of a removal", "what was recorded"])
async def test_what_only_half_happened_is_not_done_after_what_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """A tag would come back at the next start, after the manifest that it led to was removed."""
    store = FilesystemStore(tmp_path / "store")
    digest = await push(store, b"{}")
    await store.pushed(APP).manifests.add(digest)
    tags = store.pushed(APP).tags

    def fail(*_arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    if fails == "the record of a removal":
        await tags.set(V1, digest)
        with monkeypatch.context() as patched, pytest.raises(OSError, match="Input/output"):
            patched.setattr(os, "fdatasync", fail)
            await tags.remove(V1)
    else:
        with monkeypatch.context() as patched, pytest.raises(OSError, match="Input/output"):
            patched.setattr(disk, "create", fail)
            await tags.set(V1, digest)
    assert await tags.get(V1) is None
    assert await store.pushed(APP).manifests.remove(digest)
    left = tmp_path / "left"
    shutil.copytree(tmp_path / "store", left)
    await store.aclose()
    async with contextlib.aclosing(FilesystemStore(left)) as again:
        assert await again.pushed(APP).tags.all() == []
        assert not await again.pushed(APP).manifests.has(digest)


async def test_what_is_removed_and_made_again_by_the_log_leaves_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file that the disk refused once, the log tells that it is gone, and then that it is."""

    def fail(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = FilesystemStore(tmp_path / "store")
    digest = await push(store, b"{}")
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(disk, "create", fail)
        await store.pushed(APP).tags.set(V1, digest)
    await store.pushed(APP).tags.set(V1, digest)
    left = tmp_path / "left"
    shutil.copytree(tmp_path / "store", left)
    await store.aclose()
    async with contextlib.aclosing(FilesystemStore(left)) as again:
        assert await again.pushed(APP).tags.all() == [V1]
        assert list((left / "tmp").iterdir()) == []


async def test_a_manifest_stays_until_the_log_tells_that_its_tag_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill before the removal of the manifest is recorded; its link is older than the log."""
    async with contextlib.aclosing(FilesystemStore(tmp_path / "store")) as store:
        digest = await push(store, b"{}")
        await store.pushed(APP).manifests.add(digest)
    store = FilesystemStore(tmp_path / "store")
    tags, manifests = store.pushed(APP).tags, store.pushed(APP).manifests
    await tags.set(V1, digest)
    left: list[Path] = []
    write = os.pwrite

    def fail(_number: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def leave(*arguments: Any) -> int:
        left.append(tmp_path / f"left{len(left)}")
        shutil.copytree(tmp_path / "store", left[-1])
        return write(*arguments)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="Input/output"):
        patched.setattr(os, "fdatasync", fail)
        await tags.remove(V1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", leave)
        assert await manifests.remove(digest)
    await store.aclose()
    for killed in left:
        async with contextlib.aclosing(FilesystemStore(killed)) as again:
            if await again.pushed(APP).tags.all():
                assert await again.pushed(APP).manifests.has(digest)


async def test_a_tag_that_only_half_failed_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else to remove its manifest, which goes by the list, would leave it."""
    async with contextlib.aclosing(FilesystemStore(tmp_path)) as store:
        digest = await push(store, b"{}")
        tags = store.pushed(APP).tags
        await tags.set(Tag("v0"), digest)
        assert await tags.all() == ["v0"]
        create = files.create
        pieces = iter([False, True])

        def fail_once(path: Path | str, content: bytes = b"") -> None:
            if next(pieces):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            create(path, content)

        with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
            patched.setattr(disk, "create", fail_once)
            await tags.set(V1, digest)
        assert set(await tags.all()) == {
            tag for tag in (Tag("v0"), V1) if await tags.get(tag) is not None
        }


async def test_who_gives_up_waits_until_the_change_is_made(
    log: WriteAheadLog, tmp_path: Path
) -> None:
    """So that nobody else has the turn before."""
    made, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def make() -> None:
        go_on.wait(60)
        loop.call_soon_threadsafe(made.set)

    task = asyncio.create_task(log.change(Kind.WRITTEN, f"{tmp_path}/a", make))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made.is_set()


async def test_after_a_sync_that_failed_the_logs_stay_until_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later sync says that all is well, and nothing was written again."""
    storage = tmp_path / "store"
    failing, failed = True, threading.Event()

    def sync_everything(_folder: Path) -> None:
        if failing:
            failed.set()
            raise SyncFailed(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(wal, "_IDLE", 0.02)
    monkeypatch.setattr(wal_format, "sync_everything", sync_everything)
    store = FilesystemStore(storage)
    digest = await push(store, SMALL)
    await store.pushed(APP).tags.set(V1, digest)
    assert await asyncio.to_thread(failed.wait, 60)
    failing = False
    await store.pushed(APP).tags.set(Tag("v2"), digest)
    await asyncio.sleep(0.2)
    await store.aclose()
    # One at least of what was not synced, and the one after it; a slow push may take several.
    assert len(list((storage / "log").iterdir())) >= 2
    shutil.rmtree(storage / "docker")  # the file system lost what it could not sync
    async with contextlib.aclosing(FilesystemStore(storage)) as again:
        assert await again.blobs.read(digest) == SMALL
        assert await again.pushed(APP).tags.all() == [V1, Tag("v2")]
    assert not list((storage / "log").iterdir())


@pytest.mark.parametrize("lost", [False, True], ids=["a kill", "a power cut"])
async def test_a_start_on_a_full_disk_needs_no_room_for_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """What a power cut took cannot be made: that is said in a line, and the log stays."""
    store = FilesystemStore(tmp_path / "store")
    digest = await push(store, SMALL)
    left = tmp_path / "left"
    shutil.copytree(tmp_path / "store", left)
    await store.aclose()
    if lost:
        shutil.rmtree(left / "docker")

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(disk, "create", full)
        if lost:
            with pytest.raises(ConfigError, match=r"up to date from .*: No space left"):
                FilesystemStore(left)
        else:
            async with contextlib.aclosing(FilesystemStore(left)) as again:
                assert await again.blobs.read(digest) == SMALL
                assert await again.pushed(APP).layers.remove(digest)
    async with contextlib.aclosing(FilesystemStore(left)) as again:
        assert await again.blobs.read(digest) == SMALL


async def test_another_programs_files_beside_the_logs_are_left(tmp_path: Path) -> None:
    """As NFS leaves one for a file that was removed while it was open."""
    storage = tmp_path / "store"
    store = FilesystemStore(storage)
    digest = await push(store, SMALL)
    left = storage / "log/.nfs0001"
    left.write_bytes(b"another's")
    (storage / "log/2").mkdir()
    again = after_a_cut(storage, tmp_path / "cut")
    assert await again.blobs.read(digest) == SMALL
    await again.aclose()
    await store.aclose()
    assert left.exists()


async def test_a_full_disk_lets_removals_go_on(
    log: WriteAheadLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no room for a record, all is synced at once instead."""
    synced: list[Path] = []

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    for module in (wal_format, wal):
        monkeypatch.setattr(module, "sync_everything", synced.append)
    assert await log.change(Kind.REMOVED, f"{tmp_path}/a", lambda: True, decided_late=True)
    assert len(synced) == 2
    assert list((tmp_path / "log").iterdir()) == []


async def test_nobody_waits_for_a_log_that_is_closed(log: WriteAheadLog, tmp_path: Path) -> None:
    """A request that is still there when the server ends gets an error."""
    log.close()
    with pytest.raises(OSError, match="the storage is closed"):
        await log.change(Kind.WRITTEN, f"{tmp_path}/a", lambda: None)


def _records_of(storage: Path) -> list[tuple[int, str, bytes]]:
    logs = sorted((storage / "log").iterdir(), key=lambda log: int(log.name))
    return [record for log in logs for record in wal_format.records(log.read_bytes())]
