# SPDX-License-Identifier: Apache-2.0
"""Damage of every kind to every file of the layout: named in lines, repaired, and then whole."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.oci.descriptor import OCI_MANIFEST
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.registry import Registry
from buildset_registry.repair import verify_and_repair
from buildset_registry.store.filesystem import layout
from buildset_registry.store.filesystem.disk import ReadingDisk
from buildset_registry.store.filesystem.links import FileLinks
from buildset_registry.store.filesystem.store import FilesystemStore
from buildset_registry.store.objects.blobs import BlobRules
from buildset_registry.store.objects.dialect import ObjectFailure, OpenObject
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.store import ObjectStore
from buildset_registry.verify import verify

from tests.unit.gc.images import descriptor, digest_of, is_whole, push_blob, silent
from tests.unit.store.objects.imagined import ImaginedService

NAME = RepositoryName("org/app")
LAYER = bytes(range(256)) * 500
TYPE = "application/vnd.example.config.v1+json"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _file_above(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_bytes(b"a file")


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nowhere")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"garbage"),
    "not UTF-8": lambda path: path.write_bytes(b"\xff" * 71),
    "zeros": lambda path: path.write_bytes(bytes(71)),
    "another digest": lambda path: path.write_bytes(b"sha256:" + b"0" * 64),
    "a folder": _folder,
    "a file instead of its folder": _file_above,
    "a link to nowhere": _dangling,
}
FILES = [
    "blob",
    "config",
    "manifest",
    "layer link",
    "manifest link",
    "tag",
    "tag index",
    "media type",
]


async def image(storage: Path) -> tuple[dict[str, Path], dict[str, object]]:
    """Push an image whose bytes do not tell their type, under a tag; return its files."""
    async with contextlib.aclosing(FilesystemStore(storage)) as store:
        described = await push_it(store)
    digest = digest_of(described)
    folder = layout.repository(storage, NAME)
    tag = layout.tags(folder) / "latest"
    return {
        "blob": layout.blob(storage, Digest.of(LAYER)),
        "config": layout.blob(storage, Digest.of(b"{}")),
        "manifest": layout.blob(storage, digest),
        "layer link": layout.link(layout.layers(folder), Digest.of(LAYER)),
        "manifest link": layout.link(layout.revisions(folder), digest),
        "tag": tag / "current/link",
        "tag index": layout.link(tag / "index", digest),
        "media type": layout.link(layout.revisions(folder), digest).with_name("media-type"),
    }, described


async def push_it(store: FilesystemStore) -> dict[str, object]:
    registry = Registry(store)
    tree = {
        "schemaVersion": 2,
        "config": await push_blob(registry, NAME, b"{}"),
        "layers": [await push_blob(registry, NAME, LAYER)],
    }
    raw = json.dumps(tree).encode()
    media_type = "application/vnd.docker.distribution.manifest.v2+json"
    await registry.push_manifest(NAME, [Tag("latest")], raw, media_type)
    return descriptor(Digest.of(raw), len(raw), media_type)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", FILES)
async def test_each_damage_is_named_and_repaired_or_healed_by_a_push(
    tmp_path: Path, file: str, damage: str
) -> None:
    storage = tmp_path / "store"
    files, described = await image(storage)
    DAMAGE[damage](files[file])
    async with contextlib.aclosing(FilesystemStore(storage, disk=ReadingDisk(storage))) as reading:
        found = await verify(reading, silent, sparse=False, pause=0)
        assert all("\n" not in one.reason for one in found.problems)
    damaged = tmp_path / "damaged"
    shutil.copytree(storage, damaged, symlinks=True)
    async with contextlib.aclosing(FilesystemStore(damaged)) as store:
        left, repaired = await verify_and_repair(store, silent, sparse=False)
        assert left.problems == []
        assert bool(repaired) == bool(found.problems)
        for tag in await store.pushed(NAME).tags.all():
            assert (await Registry(store).manifest(NAME, tag)).digest == digest_of(described)
            assert await is_whole(Registry(store), NAME, described)
    async with contextlib.aclosing(FilesystemStore(storage)) as store:
        assert await push_it(store) == described
        assert (await verify(store, silent, sparse=False, pause=0)).problems == []
        assert await is_whole(Registry(store), NAME, described)
        assert (await Registry(store).manifest(NAME, Tag("latest"))).media_type == (
            described["mediaType"]
        )


async def test_links_are_mended_from_what_is_there(tmp_path: Path) -> None:
    """Nothing is removed whose content is whole."""
    files, described = await image(tmp_path / "store")
    for file in ("layer link", "manifest link"):
        files[file].write_bytes(bytes(71))
    async with contextlib.aclosing(FilesystemStore(tmp_path / "store")) as store:
        _left, repaired = await verify_and_repair(store, silent, sparse=False)
        assert {one.done for one in repaired} == {"mended"}
        assert await is_whole(Registry(store), NAME, described)
        assert await store.pushed(NAME).tags.all() == [Tag("latest")]


@pytest.mark.parametrize("damaged", ["manifest", "layer"])
@pytest.mark.parametrize(
    "tree",
    [
        {"schemaVersion": 1, "fsLayers": [], "mediaType": SCHEMA1},
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [], "annotations": {"a": 1}},
    ],
)
async def test_what_is_not_taken_in_any_more_is_repaired_as_all_else(
    tmp_path: Path, tree: dict[str, Any], damaged: str
) -> None:
    """distribution has stored it, or an older release: it is mended, and goes if it lacks some."""
    async with contextlib.aclosing(FilesystemStore(tmp_path / "store")) as store:
        index = store.pushed(NAME)
        if damaged == "layer":
            tree = {**tree, "layers": [descriptor(Digest.of(LAYER), len(LAYER))]}
        raw = json.dumps(tree).encode()
        digest = Digest.of(raw)
        await store.blobs.put(digest, raw)
        await index.manifests.add(digest)
        await index.tags.set(Tag("old"), digest)
        if damaged == "manifest":
            revisions = layout.revisions(layout.repository(tmp_path / "store", NAME))
            layout.link(revisions, digest).write_bytes(bytes(71))
    async with contextlib.aclosing(FilesystemStore(tmp_path / "store")) as store:
        left, repaired = await verify_and_repair(store, silent, sparse=False)
        assert left.problems == []
        done = "mended" if damaged == "manifest" else "removed"
        assert [(one.problem.kind, one.done) for one in repaired] == [("image", done)]
        assert await store.pushed(NAME).manifests.has(digest) is (done == "mended")


@pytest.mark.parametrize(
    ("code", "stays"),
    [(errno.EACCES, True), (errno.EMFILE, True), (errno.ESTALE, True), (errno.EIO, False)],
)
async def test_content_that_cannot_be_read_stays_unless_the_disk_has_lost_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, *, stays: bool
) -> None:
    """It was removed with its images, where another user ran this, or descriptors were out."""
    _files, described = await image(tmp_path / "store")
    layer = layout.blob(tmp_path / "store", Digest.of(LAYER))
    opened = Path.open

    def open_(path: Path, *given: Any, **named: Any) -> Any:
        if path == layer:
            raise OSError(code, os.strerror(code))
        return opened(path, *given, **named)

    monkeypatch.setattr(Path, "open", open_)
    async with contextlib.aclosing(FilesystemStore(tmp_path / "store")) as store:
        left, repaired = await verify_and_repair(store, silent, sparse=False)
        assert bool(repaired) is not stays
        told = f"it cannot be read: {os.strerror(code)}"
        assert [(one.reason, one.unread) for one in left.problems] == [(told, True)] * stays
        monkeypatch.undo()
        assert (await store.blobs.size(Digest.of(LAYER)) is not None) is stays
        if stays:
            assert await is_whole(Registry(store), NAME, described)


class Refusing(ImaginedService):
    """A service that refuses to send some of what it has: it is archived, say."""

    refused = ""

    async def get(self, key: str, start: int = 0, end: int | None = None) -> OpenObject | None:
        if self.refused and self.refused in key:
            raise ObjectFailure("the object store answers 403 InvalidObjectState")
        return await super().get(key, start, end)


async def test_what_a_service_does_not_send_stays_where_it_is() -> None:
    service = Refusing(1)
    async with contextlib.aclosing(ObjectStore(service, Keys(), BlobRules())) as store:
        layer = Digest.of(b"layer")
        await store.blobs.put(layer, b"layer")
        await store.pushed(NAME).layers.add(layer)
        service.refused = f"{layer.hex}/data"
        left, repaired = await verify_and_repair(store, silent, sparse=False)
        assert repaired == []
        assert [(one.kind, one.name, one.unread) for one in left.problems] == [
            ("blob", str(layer), True)
        ]
        assert await store.blobs.size(layer) == 5


async def test_a_link_that_cannot_be_read_for_a_moment_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may lead to content by another digest, as distribution makes them, and to nothing else."""
    alias = Digest.of(LAYER, "sha512")
    async with contextlib.aclosing(FilesystemStore(tmp_path / "store")) as store:
        await store.blobs.put(Digest.of(LAYER), LAYER)
        await store.pushed(NAME).layers.add(alias, Digest.of(LAYER))
        looked, found = 0, FileLinks.target

        async def target(links: FileLinks, digest: Digest) -> Digest | None:
            nonlocal looked
            looked += 1
            if looked <= 2:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return await found(links, digest)

        monkeypatch.setattr(FileLinks, "target", target)
        _left, repaired = await verify_and_repair(store, silent, sparse=False)
        assert repaired == []
        assert await store.pushed(NAME).layers.target(alias) == Digest.of(LAYER)


async def test_a_link_that_the_disk_has_lost_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content stands, and no later look would find the link."""
    async with contextlib.aclosing(FilesystemStore(tmp_path / "store")) as store:
        await store.blobs.put(Digest.of(LAYER), LAYER)
        await store.pushed(NAME).layers.add(Digest.of(LAYER))

        async def target(_links: FileLinks, _digest: Digest) -> Digest | None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(FileLinks, "target", target)
        _left, repaired = await verify_and_repair(store, silent, sparse=False)
        assert {one.problem.kind for one in repaired} == {"layer"}


async def test_a_manifest_that_cannot_be_read_is_named_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else is looked at as well."""
    files, described = await image(tmp_path / "store")
    opened = Path.open

    def open_(path: Path, *given: Any, **named: Any) -> Any:
        if path == files["manifest"]:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *given, **named)

    async def read(_blobs: Any, _digest: Digest) -> bytes | None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    async with contextlib.aclosing(FilesystemStore(tmp_path / "store")) as store:
        monkeypatch.setattr(Path, "open", open_)
        monkeypatch.setattr(type(store.blobs), "read", read)
        left, repaired = await verify_and_repair(store, silent, sparse=False)
        assert repaired == []
        assert [(one.name, one.unread) for one in left.problems] == [
            (str(digest_of(described)), True)
        ]
        monkeypatch.undo()
        assert await is_whole(Registry(store), NAME, described)
