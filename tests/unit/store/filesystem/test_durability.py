# SPDX-License-Identifier: Apache-2.0
"""A store that need not be durable waits for no disk, and holds the same."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.store.filesystem import files as writing
from buildset_registry.store.filesystem.store import FilesystemStore

from tests.unit.store.arriving import pieces

CONTENT = b"content"
DIGEST = Digest.parse("sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73")


@pytest.mark.parametrize("durable", [True, False])
async def test_only_a_durable_store_syncs(
    durable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob, a manifest's link and a tag are there in both; only one asks the disk."""
    synced: list[int] = []
    monkeypatch.setattr(writing, "_AHEAD", 1)
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, synced.append)
    name, tag = RepositoryName.parse("app"), Tag.parse("v1")
    with contextlib.closing(FilesystemStore(tmp_path, durable=durable)) as store:
        upload = await store.uploads.create(name)
        await upload.append(pieces(CONTENT))
        await upload.commit(DIGEST)
        await store.pushed(name).manifests.add(DIGEST)
        await store.pushed(name).tags.set(tag, DIGEST)
        assert await store.blobs.read(DIGEST) == CONTENT
        found = await store.pushed(name).tags.get(tag)
        assert found is not None
        assert found.digest == DIGEST
    assert bool(synced) == durable
