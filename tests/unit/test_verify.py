# SPDX-License-Identifier: Apache-2.0
"""Damage of every kind is named, and nothing else is."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.oci.descriptor import OCI_MANIFEST
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.progress import Progress
from buildset_registry.registry import Registry
from buildset_registry.store.base import Store
from buildset_registry.store.filesystem import layout
from buildset_registry.store.filesystem.disk import ReadingDisk
from buildset_registry.store.filesystem.store import FilesystemStore
from buildset_registry.store.memory import MemoryStore
from buildset_registry.verify import Findings, verify

NAME = RepositoryName("org/app")
LAYER, CONFIG = b"layer" * 100, b"{}"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemStore]:
    """A store in a folder, with an image in it."""
    async with contextlib.aclosing(FilesystemStore(tmp_path / "store")) as made:
        yield made


def descriptor(content: bytes) -> dict[str, Any]:
    return {"mediaType": "text/plain", "digest": str(Digest.of(content)), "size": len(content)}


async def push_image(store: Store, tag: str = "latest", *, sparse: bool = False) -> Digest:
    """Push an image, without its layer where it is sparse."""
    registry = Registry(store, sparse=sparse)
    for content in (CONFIG,) if sparse else (CONFIG, LAYER):
        upload = await registry.start_upload(NAME)
        await upload.append(one(content))
        await registry.finish_upload(NAME, upload, Digest.of(content))
    tree = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(CONFIG),
        "layers": [descriptor(LAYER)],
    }
    raw = json.dumps(tree).encode()
    await registry.push_manifest(NAME, [Tag(tag)], raw, OCI_MANIFEST)
    return Digest.of(raw)


async def one(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def look(store: Store, *, sparse: bool = False) -> Findings:
    return await verify(store, lambda step: None, sparse=sparse, pause=0)


def named(findings: Findings) -> list[tuple[str, str]]:
    return [(problem.kind, problem.name) for problem in findings.problems]


@pytest.mark.parametrize("kind", ["filesystem", "memory"])
async def test_a_sound_store_has_no_problems(tmp_path: Path, kind: str) -> None:
    """Everything was looked at, in every kind of store."""
    made = FilesystemStore(tmp_path / "store") if kind == "filesystem" else MemoryStore()
    async with contextlib.aclosing(made) as store:
        image = await push_image(store)
        seen: list[Progress] = []
        findings = await verify(store, seen.append, sparse=False, pause=0)
        size = await store.blobs.size(image)
    assert size is not None
    total = len(LAYER) + len(CONFIG) + size
    assert findings == Findings([], 3, total, 1, 1, 1)
    assert Progress("bytes", total, total) in seen


async def test_content_that_changed_is_named_until_it_is_pushed_again(
    store: FilesystemStore,
) -> None:
    """Its digest and what it is now; pushing it again heals it."""
    await push_image(store)
    blob = await store.blobs.open(Digest.of(LAYER))
    assert blob is not None
    blob.path.write_bytes(LAYER.upper())
    findings = await look(store)
    assert named(findings) == [("blob", str(Digest.of(LAYER)))]
    assert str(Digest.of(LAYER.upper())) in findings.problems[0].reason
    await push_image(store)
    assert (await look(store)).problems == []


async def test_a_manifest_that_changed_can_be_deleted_and_pushed_again(
    store: FilesystemStore,
) -> None:
    """It can be deleted, and pushed again."""
    image = await push_image(store)
    blob = await store.blobs.open(image)
    assert blob is not None
    blob.path.write_bytes(b"x" * blob.size)
    assert named(await look(store)) == [("blob", str(image))]
    await Registry(store).delete_manifest(NAME, image)
    await push_image(store)
    assert (await look(store)).problems == []


async def test_a_missing_layer_and_a_missing_manifest_are_named(
    store: FilesystemStore, tmp_path: Path
) -> None:
    """A layer, a manifest, the manifest of a tag."""
    image = await push_image(store)
    await store.blobs.sweep(Digest.of(LAYER), 1e12, 1e12)
    findings = await look(store)
    assert named(findings) == [("image", f"{NAME}@{image}")]
    assert str(Digest.of(LAYER)) in findings.problems[0].reason
    await store.blobs.sweep(image, 1e12, 1e12)
    assert "manifest is missing" in (await look(store)).problems[0].reason
    await store.pushed(NAME).manifests.remove(image)
    findings = await look(store)
    assert named(findings) == [("tag", f"{NAME}:latest")]
    assert str(image) in findings.problems[0].reason


async def test_links_that_are_empty_are_named(store: FilesystemStore, tmp_path: Path) -> None:
    """As a file system leaves them that lost their content."""
    image = await push_image(store)
    repository = layout.repository(tmp_path / "store", NAME)
    (layout.tags(repository) / "latest/current/link").write_text("")
    layout.link(layout.revisions(repository), image).write_text("")
    assert named(await look(store)) == [
        ("image", f"{NAME}@{image}"),
        ("tag", f"{NAME}:latest"),
    ]


async def test_a_sparse_image_is_whole_where_it_may_be(store: FilesystemStore) -> None:
    """Elsewhere it lacks its layer."""
    image = await push_image(store, sparse=True)
    assert named(await look(store)) == [("image", f"{NAME}@{image}")]
    assert (await look(store, sparse=True)).problems == []


async def test_what_goes_meanwhile_is_not_broken(store: FilesystemStore) -> None:
    """What looks broken is looked at again."""
    image = await push_image(store)
    await store.blobs.sweep(Digest.of(LAYER), 1e12, 1e12)
    looks = asyncio.Event()
    looking = asyncio.ensure_future(verify(store, lambda step: looks.set(), sparse=False, pause=2))
    await looks.wait()
    await asyncio.sleep(0.05)
    await Registry(store).delete_manifest(NAME, image)
    assert (await looking).problems == []


async def test_looking_changes_nothing(store: FilesystemStore, tmp_path: Path) -> None:
    """It needs no lock, and leaves the times by which the collector goes."""
    await push_image(store)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    disk = ReadingDisk(tmp_path / "store")
    async with contextlib.aclosing(FilesystemStore(tmp_path / "store", disk=disk)) as reading:
        assert (await look(reading)).blobs == 3
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
