# SPDX-License-Identifier: Apache-2.0
"""What a client was told of stays, whatever a collection does meanwhile."""

import asyncio
import contextlib
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from buildset_registry.errors import BlobUnknown, ManifestBlobUnknown
from buildset_registry.gc import collect
from buildset_registry.oci.descriptor import OCI_MANIFEST
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.progress import Progress
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem.store import FilesystemStore

from tests.unit.clocks import Shifted
from tests.unit.gc.images import (
    NAME,
    OTHER,
    RULES,
    Described,
    blobs,
    descriptor,
    digest_of,
    is_whole,
    push,
    push_blob,
    silent,
)
from tests.unit.pullthrough.reading import ALL
from tests.unit.store.blobs import pieces


async def test_a_promise_in_the_middle_of_a_collection_holds(tmp_path: Path) -> None:
    """After the marking and before the removal a client asks: it keeps what it was told of."""
    async with contextlib.aclosing(FilesystemStore(tmp_path / "store")) as store:
        registry = Registry(store)
        for content in (b"head", b"mount", b"push", b"nobody"):
            await push_blob(registry, NAME, content)
            blob = await store.blobs.open(Digest.of(content))
            assert blob
            os.utime(blob.path, (0, 0))

        async def meanwhile() -> None:
            await registry.promised_size(NAME, Digest.of(b"head"))
            await registry.mount(OTHER, Digest.of(b"mount"), NAME, ALL)
            await push_blob(registry, NAME, b"push")

        clients: list[asyncio.Future[None]] = []

        def watch(progress: Progress) -> None:
            if progress.stage == "cache" and not clients:
                clients.append(asyncio.ensure_future(meanwhile()))

        report = await collect(store, replace(RULES, grace=3600), watch, dry_run=False)
        await clients[0]
        assert report.blobs >= 1
        assert await blobs(store) == {Digest.of(one) for one in (b"head", b"mount", b"push")}


class Crowd:
    """Clients that push, skip what is there, and delete, while collections run."""

    GRACE = 0.5

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.acknowledged: dict[RepositoryName, Described] = {}
        self.refused = 0

    async def work(self, name: RepositoryName, rounds: int) -> None:
        for number in range(rounds):
            layers = [b"layer %d" % (number * 7 % 5 + step) for step in range(3)]
            began = time.monotonic()
            try:
                self.acknowledged[name] = await self._push(name, [b"{}", *layers])
            except ManifestBlobUnknown:
                # Too slow for the grace period: the client is told so, and would push again.
                assert time.monotonic() - began > self.GRACE
                self.refused += 1
            if number % 3 == 2:
                image = self.acknowledged.pop(name, None)
                if image is not None:
                    await self.registry.delete_manifest(name, digest_of(image))

    async def _push(self, name: RepositoryName, contents: list[bytes]) -> Described:
        described = []
        for content in contents:
            try:
                size = await self.registry.promised_size(name, Digest.of(content))
                described.append(descriptor(Digest.of(content), size))
            except BlobUnknown:
                described.append(await push_blob(self.registry, name, content))
        tree = {"schemaVersion": 2, "config": described[0], "layers": described[1:]}
        return await push(self.registry, name, tree | {"mediaType": OCI_MANIFEST}, ["latest"])


async def test_pushes_during_collections_lose_nothing(tmp_path: Path) -> None:
    """However they interleave, every image that was acknowledged is whole at the end."""
    async with contextlib.aclosing(FilesystemStore(tmp_path / "store", promise_seconds=0)) as store:
        registry = Registry(store)
        crowd = Crowd(registry)
        rules = replace(RULES, grace=Crowd.GRACE, settling=0.05)
        names = [RepositoryName(f"app{number}") for number in range(4)]
        working = asyncio.gather(*(crowd.work(name, 40) for name in names))
        swept = 0
        while not working.done():
            swept += (await collect(store, rules, silent, dry_run=False)).blobs
            await asyncio.sleep(0.01)
        await working
        assert len(crowd.acknowledged) == len(names)
        for name, image in crowd.acknowledged.items():
            assert await is_whole(registry, name, image)
        await asyncio.sleep(Crowd.GRACE * 1.2)
        swept += (await collect(store, rules, silent, dry_run=False)).blobs
        assert swept > 0
        for name, image in crowd.acknowledged.items():
            assert await is_whole(registry, name, image)


async def test_a_promise_is_noted_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered of a blob does not hide that its last promise is old."""
    folder = tmp_path / "store"
    async with contextlib.aclosing(FilesystemStore(folder, promise_seconds=3600)) as store:
        registry = Registry(store)
        await push_blob(registry, NAME, b"layer")
        blob = await store.blobs.open(Digest.of(b"layer"))
        assert blob

        async def promised() -> float:
            assert await registry.promised_size(NAME, Digest.of(b"layer")) == 5
            return blob.path.stat().st_mtime

        pushed = await promised()
        assert await promised() == pushed
        await asyncio.sleep(0.02)  # the clock of files ticks every few milliseconds
        with monkeypatch.context() as patched:
            patched.setattr("buildset_registry.store.filesystem.store.time", Shifted(7200))
            noted = await promised()
        assert noted > pushed
        assert await promised() == noted


async def test_a_promise_of_what_has_another_digest_writes_nothing(tmp_path: Path) -> None:
    """A blob pushed by sha512 is stored under its sha256, and linked already."""
    async with contextlib.aclosing(FilesystemStore(tmp_path / "store")) as store:
        registry = Registry(store)
        upload = await registry.start_upload(NAME)
        await upload.append(pieces(b"layer"))
        digest = Digest.of(b"layer", "sha512")
        await registry.finish_upload(NAME, upload, digest)
        before = await store.pushed(NAME).layers.all()
        await asyncio.sleep(0.02)
        assert await registry.promised_size(NAME, digest) == 5
        assert await store.pushed(NAME).layers.all() == before
