# SPDX-License-Identifier: Apache-2.0
"""A store that need not be durable waits for no disk, and holds the same."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.store.filesystem.store import FilesystemStore

from tests.unit.store.blobs import pieces

#: More than may wait for the disk while it arrives.
CONTENT = b"content" * 3_000_000
DIGEST = Digest.of(CONTENT)


@pytest.mark.parametrize("durable", [True, False])
async def test_only_a_durable_store_syncs(
    durable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob, a manifest's link and a tag are there in both; only one asks the disk."""
    synced: list[int] = []
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, synced.append)
    name, tag = RepositoryName.parse("app"), Tag.parse("v1")
    async with contextlib.aclosing(FilesystemStore(tmp_path, durable=durable)) as store:
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
