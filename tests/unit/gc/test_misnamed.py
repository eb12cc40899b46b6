# SPDX-License-Identifier: Apache-2.0
"""Repositories of another program, whose names nobody can ask for here."""

from contextlib import aclosing
from pathlib import Path

import pytest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.registry import Registry
from buildset_registry.repair import verify_and_repair
from buildset_registry.store import open_store

from tests.stores.fixtures import ObjectStores
from tests.unit.gc.images import NAME, blobs, clean, digest_of, push_blob, push_image, silent
from tests.unit.store.kinds import CONFIGURED

LONG = f"{'a' * 200}/{'b' * 100}"


@pytest.mark.parametrize("name", ["MyHost/app", "host:5000/app", LONG])
@pytest.mark.parametrize("kind", ["filesystem", "s3-minio"])
async def test_what_a_repository_holds_that_nobody_can_ask_for_stays(
    kind: str, name: str, tmp_path: Path, object_stores: ObjectStores
) -> None:
    """It is adopted with the folder or the bucket: whoever looks is told, and nothing goes."""
    config = CONFIGURED[kind](tmp_path, object_stores)
    async with aclosing(await open_store(config)) as theirs:
        registry = Registry(theirs)
        image = await push_image(registry, "v1", name=RepositoryName(name), layers=(b"layer",))
        await push_blob(registry, NAME, b"nobody's")
    async with aclosing(await open_store(config)) as store:
        assert list(await store.repositories()) == [NAME]
        report = await clean(store)
        needed = {digest_of(image), Digest.of(b"{}"), Digest.of(b"layer")}
        assert await blobs(store) == needed
        assert (report.blobs, report.misnamed, report.problems) == (1, [name], [])
        findings, repaired = await verify_and_repair(store, silent, sparse=False)
    assert [(one.kind, one.name) for one in findings.problems] == [("repository", name)]
    assert repaired == []
