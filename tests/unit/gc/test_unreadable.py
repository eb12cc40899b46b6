# SPDX-License-Identifier: Apache-2.0
"""A disk that does not tell what is there: a collection breaks off, and nothing is removed."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Tag
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem import layout
from buildset_registry.store.filesystem.store import FilesystemStore
from buildset_registry.verify import verify

from tests.unit.gc.images import NAME, UNTAGGED, blobs, clean, digest_of, push_image, silent

LAYER = Digest.of(b"layer")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemStore]:
    """An empty store in the folder of the test."""
    async with aclosing(FilesystemStore(tmp_path)) as made:
        yield made


def fault(path: Path) -> None:
    """Let nobody look at a file: a loop of links fails for root, too, as a faulty disk does."""
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize("what", ["manifest", "tag", "layer"])
async def test_a_link_that_cannot_be_looked_at_is_not_taken_for_none(
    store: FilesystemStore, tmp_path: Path, what: str
) -> None:
    """What it holds was removed, as what nothing refers to."""
    image = await push_image(Registry(store), "v1")
    repository = layout.repository(tmp_path, NAME)
    link = {
        "manifest": layout.link(layout.revisions(repository), digest_of(image)),
        "tag": Path(layout.tag_link_name(str(layout.tags(repository)), Tag("v1"))),
        "layer": layout.link(layout.layers(repository), LAYER),
    }[what]
    fault(link)
    before = await blobs(store)
    with pytest.raises(OSError, match=str(link)):
        await clean(store, UNTAGGED)
    assert await blobs(store) == before
    assert link.is_symlink()


@pytest.mark.parametrize("what", ["link", "content"])
async def test_a_link_is_not_pruned_for_what_cannot_be_looked_at(
    store: FilesystemStore, tmp_path: Path, what: str
) -> None:
    await push_image(Registry(store), "v1")
    link = layout.link(layout.layers(layout.repository(tmp_path, NAME)), LAYER)
    fault(link if what == "link" else layout.blob(tmp_path, LAYER))
    layers = store.pushed(NAME).layers
    with pytest.raises(OSError, match="symbolic links"):
        await layers.prune(LAYER)
    assert link.is_symlink() or link.exists()


async def test_verify_names_a_link_that_cannot_be_read(
    store: FilesystemStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And goes on."""
    image = await push_image(Registry(store), "v1")

    async def unreadable(_links: object, _digest: Digest) -> Digest | None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(type(store.pushed(NAME).layers), "target", unreadable)
    found = await verify(store, silent, sparse=False, pause=0)
    names = {f"{NAME}@{LAYER}", f"{NAME}@{Digest.of(b'{}')}", f"{NAME}@{digest_of(image)}"}
    assert {one.name for one in found.problems} == names
    told = "its link cannot be read: Input/output error"
    assert {one.reason for one in found.problems} == {told}
