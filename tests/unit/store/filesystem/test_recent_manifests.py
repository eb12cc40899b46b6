# SPDX-License-Identifier: Apache-2.0
"""Manifests in memory: bounded, right, and the ones used last are kept."""

from pathlib import Path

from buildset_registry.oci.digest import Digest
from buildset_registry.store.filesystem.caches import RecentManifests
from buildset_registry.store.filesystem.store import FilesystemStore


def test_what_was_used_last_is_kept() -> None:
    """Past the bound the oldest goes; a large one is not kept at all."""
    recent = RecentManifests(most=300)
    contents = {Digest.of(byte * 100): byte * 100 for byte in (b"a", b"b", b"c", b"d")}
    first, second, third, fourth = contents
    for digest in (first, second, third):
        recent.add(digest, contents[digest])
    assert recent.get(first) == b"a" * 100
    recent.add(fourth, contents[fourth])
    assert recent.get(second) is None
    assert recent.get(first) and recent.get(third) and recent.get(fourth)
    large = b"x" * (256 * 1024 + 1)
    recent.add(Digest.of(large), large)
    assert recent.get(Digest.of(large)) is None


def test_what_is_forgotten_makes_room() -> None:
    """Forgetting twice counts once."""
    recent = RecentManifests(most=200)
    one, two, three = (Digest.of(byte * 100) for byte in (b"a", b"b", b"c"))
    recent.add(one, b"a" * 100)
    recent.add(two, b"b" * 100)
    recent.forget(one)
    recent.forget(one)
    recent.add(three, b"c" * 100)
    assert recent.get(one) is None
    assert recent.get(two) and recent.get(three)


async def test_a_blob_that_was_swept_is_not_read_from_memory(tmp_path: Path) -> None:
    """The store never gives what it has not."""
    store = FilesystemStore(tmp_path / "store")
    digest = Digest.of(b"content")
    await store.blobs.put(digest, b"content")
    assert await store.blobs.read(digest) == b"content"
    assert await store.blobs.sweep(digest, float("inf"), float("inf"))
    assert await store.blobs.read(digest) is None
    store.close()


async def test_damage_is_not_remembered(tmp_path: Path) -> None:
    """What a push mends on the disk is read from there."""
    store = FilesystemStore(tmp_path / "store")
    digest = Digest.of(b"content")
    await store.blobs.put(digest, b"content")
    blob = await store.blobs.open(digest)
    assert blob
    blob.path.write_bytes(b"damaged")
    assert await store.blobs.read(digest) == b"damaged"
    await store.blobs.put(digest, b"content")
    assert await store.blobs.read(digest) == b"content"
    store.close()
