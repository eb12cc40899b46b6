# SPDX-License-Identifier: Apache-2.0
"""A dry run changes nothing in a bucket, whatever processes have left there."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, UploadId
from buildset_registry.store.objects.blobs import BlobRules
from buildset_registry.store.objects.dialect import Abilities, ObjectState, PartUpload
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.staging import StagedBlob
from buildset_registry.store.objects.store import ObjectStore

from tests.unit.gc.images import RULES, clean
from tests.unit.store.objects.imagined import ImaginedService

KEYS, NAME = Keys(), RepositoryName("org/app")
ONE, TWO = Digest.of(b"one"), Digest.of(b"two")


class Littered(ImaginedService):
    """A service with a blob to be moved, an old promise, a download, and parts of nobody."""

    abilities = Abilities(part_size=8, most_parts=100, stages=True)

    def __init__(self) -> None:
        super().__init__(1)
        self.parts = [PartUpload(KEYS.blob(ONE), "1")]
        session, download = (UploadId(str(uuid.uuid4())) for _one in range(2))
        content = f"{KEYS.upload(NAME, session)}data"
        self.note = KEYS.staged_note(TWO, session)
        self.promise = f"{KEYS.promises(ONE)}p-0"
        self.download = f"{KEYS.download(download)}state"
        for key, there in {
            KEYS.blob(ONE): b"one",
            self.promise: b"",
            content: b"two",
            self.note: StagedBlob(TWO, self.note, content, 3).encode(),
            self.download: b"",
        }.items():
            self.objects[key] = (there, 1.0)

    async def abort(self, upload: PartUpload) -> None:
        self.parts.remove(upload)

    async def abandon(self, key: str, before: float) -> bool:
        return True

    async def stale(self, prefix: str, before: float) -> AsyncIterator[PartUpload]:
        for upload in list(self.parts):
            if upload.key.startswith(prefix):
                yield upload

    async def move(self, source: ObjectState, target: str) -> None:
        self.objects[target] = self.objects.pop(source.key)


async def test_a_dry_run_moves_and_removes_nothing() -> None:
    """What the collection does that it tells of."""
    service = Littered()
    store = ObjectStore(service, KEYS, BlobRules(kept=3600.0))
    rules = replace(RULES, grace=3600.0)
    before = dict(service.objects)
    told = await clean(store, rules, dry_run=True)
    assert service.objects == before
    assert service.parts
    assert (told.blobs, told.freed_bytes) == (2, 6)
    done = await clean(store, rules)
    assert (done.blobs, done.freed_bytes) == (2, 6)
    assert service.objects == {}
    assert service.parts == []
