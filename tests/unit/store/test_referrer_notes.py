# SPDX-License-Identifier: Apache-2.0
"""Notes of what a list of referrers says, beside the referrers, by each kind of store."""

from pathlib import Path

from buildset_registry.oci.descriptor import OCI_MANIFEST, Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.store.base import Store
from buildset_registry.store.filesystem.store import FilesystemStore

NAME = RepositoryName("org/app")
SUBJECT, REFERRER = Digest.of(b"subject"), Digest.of(b"referrer")
NOTE = Descriptor(OCI_MANIFEST, REFERRER, 8, {"a": "\u00e9"}, "a/signature")


def find_notes(storage: Path) -> list[Path]:
    return list(storage.rglob("descriptor"))


async def test_a_note_goes_with_its_referrer(store: Store) -> None:
    """A note alone makes no referrer, and the last one counts."""
    referrers = store.pushed(NAME).referrers
    assert await referrers.noted(SUBJECT, REFERRER) is None
    await referrers.note(SUBJECT, REFERRER, Descriptor(OCI_MANIFEST, REFERRER, 8))
    await referrers.note(SUBJECT, REFERRER, NOTE)
    assert await referrers.of(SUBJECT) == []
    await referrers.add(SUBJECT, REFERRER)
    assert await referrers.noted(SUBJECT, REFERRER) == NOTE
    assert await store.cached(NAME).referrers.noted(SUBJECT, REFERRER) is None
    assert await referrers.remove(SUBJECT, REFERRER)
    assert await referrers.noted(SUBJECT, REFERRER) is None


async def test_a_damaged_note_is_none(tmp_path: Path) -> None:
    """The manifest is read again instead."""
    store = FilesystemStore(tmp_path)
    referrers = store.pushed(NAME).referrers
    await referrers.note(SUBJECT, REFERRER, NOTE)
    (note,) = find_notes(tmp_path)
    for damage in (b"", b"[]", b"{", b"\xff", b'{"digest": "x"}'):
        note.write_bytes(damage)
        assert await referrers.noted(SUBJECT, REFERRER) is None
    await store.aclose()
