# SPDX-License-Identifier: Apache-2.0
"""Requests that are cancelled at any moment, once or twice, and followed at once by the same again.

Nothing of the first one is under way any more when it has ended, the next one succeeds or is told
to begin anew, and nothing is left behind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.errors import BlobUnknown, BlobUploadUnknown, ManifestUnknown
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.registry import Registry
from buildset_registry.store.base import Upload
from buildset_registry.store.filesystem import uploads
from buildset_registry.store.filesystem.files import Writer
from buildset_registry.store.filesystem.store import FilesystemStore

from tests.unit.store.blobs import content_of, pieces
from tests.unit.store.impatience import SlowThreads, is_cut

NAME, TAG = RepositoryName("org/app"), Tag("v1")
#: Bytes of a piece, and those past which a file goes to the disk while more arrives.
_PIECE, _AHEAD = 50_000, 60_000
#: More waits than a request has.
_MOST = 100
CONFIG = b"{}"
IMAGE = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":'
    b'{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":2},"layers":[]}'
    % str(Digest.of(CONFIG)).encode()
)


async def patch(registry: Registry, upload: Upload, content: bytes) -> None:
    """Send what is missing, as a request that does not end the session."""
    found = await registry.upload(NAME, upload.id)
    await found.append(pieces(content[found.size :]))


async def put(registry: Registry, upload: Upload, content: bytes) -> None:
    """Send what is missing, as the last request of the session."""
    found = await registry.upload(NAME, upload.id)
    digest, rest = Digest.of(content), content[found.size :]
    cuts = range(0, len(rest), _PIECE)
    await found.append(pieces(*(rest[cut : cut + _PIECE] for cut in cuts)), last=digest)
    await registry.finish_upload(NAME, found, digest)


async def push(registry: Registry, content: bytes) -> None:
    """Push a blob by one request."""
    await put(registry, await registry.start_upload(NAME), content)


async def put_again(registry: Registry, upload: Upload, content: bytes) -> None:
    """Send the last request, or all of the blob where the session is not there any more."""
    try:
        await put(registry, upload, content)
    except BlobUploadUnknown:
        await push(registry, content)


@pytest.fixture
async def threads() -> AsyncIterator[SlowThreads]:
    made = SlowThreads()
    yield made
    made.close()


@pytest.fixture
async def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FilesystemStore]:
    monkeypatch.setattr(uploads, "Writer", partial(Writer, ahead=_AHEAD))
    store = FilesystemStore(tmp_path / "store")
    yield store
    await store.aclose()


def left(folder: Path) -> list[str]:
    """Return what of uploads and removals is in a folder."""
    found = (one.relative_to(folder) for one in folder.rglob("*"))
    return [str(one) for one in found if {"_uploads", "tmp"} & {*one.parts[:-1]}]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("pairs", [100, 20_000, 100_000])
async def test_a_blob_that_is_pushed(
    disk: FilesystemStore, threads: SlowThreads, tmp_path: Path, pairs: int, half: bool, times: int
) -> None:
    """Small, larger, and one that goes to the disk while it arrives; also where half is there."""
    registry = Registry(disk)
    for number in range(1, _MOST):
        content = number.to_bytes(2, "big") * pairs
        upload = await registry.start_upload(NAME)
        if half:
            await patch(registry, upload, content[:pairs])
        cut = await is_cut(number, put(registry, upload, content), times)
        assert threads.running() == [], number
        if cut:
            await put_again(registry, upload, content)
        blob = await disk.blobs.open(Digest.of(content))
        assert blob and await content_of(blob) == content, number
        assert await disk.pushed(NAME).layers.has(Digest.of(content)), number
        if not cut:
            break
    assert 1 < number < _MOST - 1
    assert left(tmp_path) == []


@pytest.mark.parametrize("times", [1, 2])
async def test_a_manifest_that_is_pushed(
    disk: FilesystemStore, threads: SlowThreads, times: int
) -> None:
    """A tag is listed if it is there, and only then."""
    registry = Registry(disk)
    tags = disk.pushed(NAME).tags
    await push(registry, CONFIG)
    for number in range(1, _MOST):
        raw, tag = IMAGE[:-1] + b" " * number + b"}", Tag(f"v{number}")
        cut = await is_cut(number, registry.push_manifest(NAME, [tag], raw), times)
        assert threads.running() == [], number
        assert (tag in await tags.all()) == (await tags.get(tag) is not None), number
        await registry.push_manifest(NAME, [tag], raw)
        assert (await registry.manifest(NAME, tag)).raw == raw
        assert tag in await tags.all(), number
        if not cut:
            break
    assert 1 < number < _MOST - 1


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("what", ["manifest", "tag", "blob"])
async def test_a_removal_that_is_cancelled(
    disk: FilesystemStore, threads: SlowThreads, tmp_path: Path, what: str, times: int
) -> None:
    """The next one finds it, or finds that it is gone."""
    registry, index = Registry(disk), disk.pushed(NAME)
    image, config = Digest.of(IMAGE), Digest.of(CONFIG)
    removals: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "manifest": lambda: registry.delete_manifest(NAME, image),
        "tag": lambda: registry.delete_tag(NAME, TAG),
        "blob": lambda: registry.delete_blob(NAME, config),
    }
    remove = removals[what]
    for number in range(1, _MOST):
        await push(registry, CONFIG)
        await registry.push_manifest(NAME, [TAG], IMAGE)
        cut = await is_cut(number, remove(), times)
        assert threads.running() == [], number
        assert (TAG in await index.tags.all()) == (await index.tags.get(TAG) is not None), number
        if cut:
            with suppress(ManifestUnknown, BlobUnknown):
                await remove()
        assert (await index.tags.get(TAG) is None) == (what != "blob")
        assert await index.manifests.has(image) == (what != "manifest")
        assert await index.layers.has(config) == (what != "blob")
        if not cut:
            break
    assert 1 < number < _MOST - 1
    assert left(tmp_path) == []


async def test_a_document_that_is_written_again(
    disk: FilesystemStore, threads: SlowThreads
) -> None:
    """The first content does not take the place of the next, nor come back after a removal."""
    documents = disk.documents("topic")
    assert await is_cut(1, documents.write("name", b"first"))
    assert threads.running() == []
    await documents.remove("name")
    assert await documents.names() == []
