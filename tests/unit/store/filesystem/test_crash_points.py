# SPDX-License-Identifier: Apache-2.0
"""Pushes and removals over a disk that fails at any call, and an end at any call after that.

What is left is opened as a start finds it: after a kill, all that was written; after a power cut,
what was synced, with frames that were refused and with removals that nobody had asked to sync. Of a
manifest that was being removed and has no tag any more, the link may be back without its type.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import RLock
from typing import Any

import pytest
from buildset_registry.errors import ManifestUnknown
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem import wal, wal_format
from buildset_registry.store.filesystem.files import SyncFailed
from buildset_registry.store.filesystem.store import FilesystemStore

from tests.unit.store.blobs import pieces

APP = RepositoryName.parse("app")
CONFIG = b"{}"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
DESCRIPTOR = b'{"mediaType":"application/octet-stream","digest":"%s","size":2}' % (
    str(Digest.of(CONFIG)).encode()
)
#: Its bytes do not tell what it is.
IMAGE = b'{"schemaVersion":2,"config":%s,"layers":[]}' % DESCRIPTOR
SIGNATURE = (
    b'{"schemaVersion":2,"mediaType":"%s","config":%s,"layers":[],'
    b'"subject":{"mediaType":"%s","digest":"%s","size":%d}}'
    % (OCI.encode(), DESCRIPTOR, DOCKER.encode(), str(Digest.of(IMAGE)).encode(), len(IMAGE))
)
#: What clients push, by its tag.
PUSHED = {Tag("a"): (IMAGE, DOCKER), Tag("s"): (SIGNATURE, OCI)}
#: Calls that change a storage folder, or bring it to the disk.
CALLS = ("pwrite", "fdatasync", "fsync", "replace", "mkdir", "unlink")
#: Calls that need room.
ROOM = ("pwrite", "mkdir")

Files = dict[str, bytes]
Promises = dict[Tag, bool]
#: What is in a folder at an end, and what clients knew then.
Ends = dict[frozenset[tuple[str, bytes]], list[Promises]]


def files_of(storage: Path) -> Files:
    """Return what is in a storage folder, by path; what a start forgets is left out."""
    found: Files = {}
    for place, folders, names in os.walk(storage):
        folders[:] = [name for name in folders if name not in ("tmp", "_uploads")]
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                path = Path(place, name)
                found[str(path.relative_to(storage))] = path.read_bytes()
    return found


class Disk:
    """The disk below a storage folder: what is on it, and what an end at each call leaves."""

    def __init__(self, storage: Path, code: int, fails: Callable[[int], bool]) -> None:
        self._storage = storage
        self._code = code
        self._fails = fails
        self._lock = RLock()
        self.promises: Promises = {}
        """Images that a client knows to be there, or to be gone."""
        self.calls = 0
        self.left: Ends = {}
        self._synced = files_of(storage)
        self._logs: Files = {}

    def install(self, patched: pytest.MonkeyPatch) -> None:
        """Put it below all that the store does."""
        for name in CALLS:
            patched.setattr(os, name, self._call(name, getattr(os, name)))
        for module in (wal, wal_format):
            patched.setattr(module, "sync_everything", self._sync_everything)

    def _call(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **more: Any) -> Any:
            with self._lock:
                if name == "fdatasync":  # what it refuses may be on the disk all the same
                    log = Path(f"/proc/self/fd/{arguments[0]}").readlink()
                    self._logs[str(log.relative_to(self._storage))] = log.read_bytes()
                self._count(self._code == errno.EIO or name in ROOM)
                return None if name in ("fsync", "fdatasync") else call(*arguments, **more)

        return counted

    def _sync_everything(self, _folder: Path) -> None:
        with self._lock:
            try:
                self._count(self._code == errno.EIO)
            except OSError as error:
                raise SyncFailed(error.errno, error.strerror) from error
            self._synced = files_of(self._storage)
            self._logs.clear()

    def _count(self, may_fail: bool) -> None:
        """Note what an end here would leave, and fail if it is time."""
        self.calls += 1
        self.note()
        if may_fail and self._fails(self.calls):
            raise OSError(self._code, os.strerror(self._code))

    def note(self) -> None:
        """Note what an end here would leave."""
        now = files_of(self._storage)
        removed = {path: content for path, content in self._synced.items() if path in now}
        for files in (now, self._synced | self._logs, removed | self._logs):
            known = self.left.setdefault(frozenset(files.items()), [])
            if self.promises not in known:
                known.append(dict(self.promises))


class Client:
    """A client that is told what went well, and repeats nothing by itself."""

    def __init__(self, store: FilesystemStore, promises: Promises) -> None:
        self._store = store
        self._registry = Registry(store)
        self._promises = promises

    async def run(self, steps: str) -> None:
        """Push (+) and delete (-) by tag, remove a tag (!); what the disk refuses is left."""
        for tag, step in zip(steps[::2], steps[1::2], strict=True):
            known = self._promises.pop(Tag(tag), None)
            try:
                there = await self._step(Tag(tag), step)
            except ManifestUnknown:
                there = known
            except OSError:
                continue
            if there is not None:
                self._promises[Tag(tag)] = there

    async def _step(self, tag: Tag, step: str) -> bool | None:
        raw, media_type = PUSHED[tag]
        if step == "+":
            await self._registry.push_manifest(APP, [tag], raw, media_type)
            return True
        if step == "-":
            await self._registry.delete_manifest(APP, Digest.of(raw))
            return False
        await self._registry.delete_tag(APP, tag)
        return None


async def push_config(store: FilesystemStore) -> None:
    """Push the blob that both images have."""
    registry, digest = Registry(store), Digest.of(CONFIG)
    upload = await registry.start_upload(APP)
    await upload.append(pieces(CONFIG))
    await registry.finish_upload(APP, upload, digest)


async def check(storage: Path, promises: Iterable[Promises]) -> None:
    """Require that every tag leads to an image, and that what was promised holds."""
    async with contextlib.aclosing(FilesystemStore(storage)) as store:
        assert list((storage / "tmp").iterdir()) == []  # nothing that the start itself left
        registry, index = Registry(store), store.pushed(APP)
        for tag in await index.tags.all():
            found = await registry.manifest(APP, tag)
            assert (found.raw, found.media_type) == PUSHED[tag]
        for link in await index.manifests.all():
            found = await registry.manifest(APP, link.digest)
            assert found.raw in (IMAGE, SIGNATURE)
        listed = [one.digest for one in (await registry.referrers(APP, Digest.of(IMAGE))).items]
        for digest in listed:
            assert (await registry.manifest(APP, digest)).raw == SIGNATURE
        for tag, there in itertools.chain(*(one.items() for one in promises)):
            digest = Digest.of(PUSHED[tag][0])
            assert await index.manifests.has(digest) == there, (tag, there)
            if there:
                assert (await registry.manifest(APP, tag)).digest == digest
                assert await index.layers.has(Digest.of(CONFIG))
                assert await store.blobs.read(Digest.of(CONFIG)) == CONFIG
            if tag == "s":
                assert (digest in listed) == there


def never_wait(patched: pytest.MonkeyPatch) -> None:
    """Let everything be on disk at once."""
    for name in ("fsync", "fdatasync"):
        patched.setattr(os, name, lambda _number: None)
    for module in (wal, wal_format):
        patched.setattr(module, "sync_everything", lambda _folder: None)


async def prepare(storage: Path, steps: str) -> Files:
    """Return what is in a storage folder after some steps over a disk that does not fail."""
    with pytest.MonkeyPatch.context() as patched:
        never_wait(patched)
        async with contextlib.aclosing(FilesystemStore(storage)) as store:
            await push_config(store)
            await Client(store, {}).run(steps)
    return files_of(storage)


async def run(
    storage: Path, before: Files, steps: str, fails: Callable[[int], bool], code: int
) -> Disk:
    """Run some steps over a disk that fails."""
    shutil.rmtree(storage)
    lay_out(storage, before.items())
    disk = Disk(storage, code, fails)
    store = FilesystemStore(storage)
    with pytest.MonkeyPatch.context() as patched:
        disk.install(patched)
        await Client(store, disk.promises).run(steps)
        await store.aclose()
        disk.note()
    return disk


def lay_out(storage: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Make a storage folder with some files in it."""
    for name, content in files:
        path = storage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


async def every_end(storage: Path, before: str, steps: str, code: int) -> Ends:
    """Return what is left of some steps where the disk fails once, or for good, at any call."""
    left: Ends = {}
    there = await prepare(storage, before)
    for call in itertools.count(1):
        for fails in (call.__eq__, call.__le__):
            disk = await run(storage, there, steps, fails, code)
            for files, promises in disk.left.items():
                known = left.setdefault(files, [])
                known += [one for one in promises if one not in known]
        if disk.calls < call:
            break
    return left


@pytest.mark.parametrize(
    ("before", "steps", "code"),
    [
        ("", "a+a-", errno.EIO),
        ("a+", "a-a+", errno.EIO),
        ("a+", "a+a-a-", errno.EIO),
        ("a+", "a+a!a-", errno.EIO),
        ("a+s+", "s+s-s-", errno.EIO),
        ("a+", "a+a-a-", errno.ENOSPC),
    ],
)
async def test_wherever_a_disk_fails_and_a_server_ends_every_tag_leads_to_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, steps: str, code: int
) -> None:
    """And what was acknowledged is there, or gone."""
    monkeypatch.setattr(wal, "_IDLE", 60.0)
    monkeypatch.setattr(wal_format, "_GROWTH", 4096)
    left = await every_end(tmp_path / "storage", before, steps, code)
    never_wait(monkeypatch)
    for number, (files, promises) in enumerate(left.items()):
        storage = tmp_path / f"left{number}"
        lay_out(storage, files)
        await check(storage, promises)
        shutil.rmtree(storage)
    assert len(left) > 10
