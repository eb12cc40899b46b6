# SPDX-License-Identifier: Apache-2.0
"""What only the store on disk promises: its layout, restarts, one process at a time."""

import asyncio
import contextlib
import errno
import os
import stat
from pathlib import Path

import pytest
from buildset_registry.errors import ConfigError, StoreInUse
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.store.documents import read_content
from buildset_registry.store.filesystem.store import FilesystemStore

from tests.unit.store.blobs import pieces

NAME = RepositoryName("org/app")
ONE = Digest.of(b"one")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_the_layout_is_distributions(folder: Path) -> None:
    """registry:2 finds blobs, layers, revisions and tags where it keeps them itself."""
    async with contextlib.aclosing(FilesystemStore(folder)) as store:
        upload = await store.uploads.create(NAME)
        await upload.append(pieces(b"one"))
        await upload.commit(ONE)
        index = store.pushed(NAME)
        await index.layers.add(ONE)
        await index.manifests.add(ONE)
        await index.tags.set(Tag("v1"), ONE)
    top = "docker/registry/v2"
    repository = f"{top}/repositories/org/app"
    assert tree(folder) == sorted(
        [
            "lock",
            f"{top}/blobs/sha256/{ONE.hex[:2]}/{ONE.hex}/data",
            f"{repository}/_layers/sha256/{ONE.hex}/link",
            f"{repository}/_manifests/revisions/sha256/{ONE.hex}/link",
            f"{repository}/_manifests/tags/v1/current/link",
            f"{repository}/_manifests/tags/v1/index/sha256/{ONE.hex}/link",
        ]
    )
    link = folder / repository / "_manifests/tags/v1/current/link"
    assert link.read_text() == str(ONE)


async def test_a_restart_forgets_half_written_downloads(folder: Path) -> None:
    """What was pulled through half-way is gone; nothing is left in tmp."""
    async with contextlib.aclosing(FilesystemStore(folder)) as store:
        upload = await store.uploads.ingest(ONE)
        await upload.append(pieces(b"on"))
        assert list((folder / "tmp").iterdir())
    async with contextlib.aclosing(FilesystemStore(folder)):
        assert not list((folder / "tmp").iterdir())


async def test_one_process_uses_a_folder(folder: Path) -> None:
    """The second is told so, until the first lets it go."""
    async with contextlib.aclosing(FilesystemStore(folder)):
        with pytest.raises(StoreInUse, match="in use by another"):
            FilesystemStore(folder)
    await FilesystemStore(folder).aclose()


def test_an_unusable_folder_is_one_line(folder: Path) -> None:
    """It names the folder, the reason, and what to do."""
    folder.write_text("a file")
    with pytest.raises(ConfigError, match=r"cannot use .*store as storage: .*; name a folder"):
        FilesystemStore(folder)


async def test_a_damaged_blob_is_healed_by_a_push(folder: Path) -> None:
    """Content of the wrong size under a digest is replaced by what was verified."""
    async with contextlib.aclosing(FilesystemStore(folder)) as store:
        await store.blobs.put(ONE, b"one")
        blob = await store.blobs.open(ONE)
        assert blob
        blob.path.write_bytes(b"o")
        upload = await store.uploads.create(NAME)
        await upload.append(pieces(b"one"))
        await upload.commit(ONE)
        assert await store.blobs.read(ONE) == b"one"


async def test_a_folder_removed_meanwhile_is_made_again(folder: Path) -> None:
    """Deleting a tag and pushing it again at once leaves the push."""
    async with contextlib.aclosing(FilesystemStore(folder)) as store:
        tags = store.pushed(NAME).tags
        for _ in range(3):
            await tags.set(Tag("v1"), ONE)
            assert await tags.remove(Tag("v1"))
        await tags.set(Tag("v1"), ONE)
        target = await tags.get(Tag("v1"))
        assert target
        assert target.digest == ONE


@pytest.mark.parametrize(("secret", "modes"), [(True, (0o700, 0o600)), (False, (0o755, 0o644))])
async def test_secret_documents_are_for_one_user(
    folder: Path, secret: bool, modes: tuple[int, int]
) -> None:
    """Whatever the mask of the process lets others see of everything else."""
    before = os.umask(0o022)
    try:
        documents = FilesystemStore(folder).documents("one", secret=secret)
        await documents.write("name", b"content")
    finally:
        os.umask(before)
    place = folder / "documents" / "one"
    assert [path.name for path in place.iterdir()] == ["name"]
    assert tuple(stat.S_IMODE(path.stat().st_mode) for path in (place, place / "name")) == modes


async def test_a_document_that_cannot_be_written_stays_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left over; what a process left that was killed goes at the next start."""
    store = FilesystemStore(folder)
    documents = store.documents("one")
    await documents.write("name", b"before")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            await documents.write("name", b"after")
    assert await read_content(documents, "name") == b"before"
    assert list((folder / "tmp").iterdir()) == []
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", _die)
        patched.setattr(Path, "unlink", _die)
        with pytest.raises(asyncio.CancelledError):
            await documents.write("name", b"after")
    assert [path.read_bytes() for path in (folder / "tmp").iterdir()] == [b"after"]
    await store.aclose()
    store = FilesystemStore(folder)
    assert list((folder / "tmp").iterdir()) == []
    assert await read_content(store.documents("one"), "name") == b"before"


def _die(*_arguments: object, **_more: object) -> None:
    raise asyncio.CancelledError
