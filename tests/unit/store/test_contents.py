# SPDX-License-Identifier: Apache-2.0
"""Small blobs in memory: bounded, right, and the ones used last are kept."""

from pathlib import Path

from buildset_registry.oci.digest import Digest
from buildset_registry.store.contents import ContentCache
from buildset_registry.store.filesystem.store import FilesystemStore


def test_what_was_used_last_is_kept() -> None:
    """Past the bound the oldest goes; a large one is not kept at all."""
    cache = ContentCache(limit=300)
    contents = {Digest.of(byte * 100): byte * 100 for byte in (b"a", b"b", b"c", b"d")}
    first, second, third, fourth = contents
    for digest in (first, second, third):
        cache.add(digest, contents[digest])
    assert cache.get(first) == b"a" * 100
    cache.add(fourth, contents[fourth])
    assert cache.get(second) is None
    assert cache.get(first) and cache.get(third) and cache.get(fourth)
    large = b"x" * (256 * 1024 + 1)
    cache.add(Digest.of(large), large)
    assert cache.get(Digest.of(large)) is None


def test_what_is_forgotten_makes_room() -> None:
    """Forgetting twice counts once."""
    cache = ContentCache(limit=200)
    one, two, three = (Digest.of(byte * 100) for byte in (b"a", b"b", b"c"))
    cache.add(one, b"a" * 100)
    cache.add(two, b"b" * 100)
    cache.removed(one)
    cache.removed(one)
    cache.add(three, b"c" * 100)
    assert cache.get(one) is None
    assert cache.get(two) and cache.get(three)


async def test_a_blob_that_was_swept_is_not_read_from_memory(tmp_path: Path) -> None:
    """The store never gives what it has not."""
    store = FilesystemStore(tmp_path / "store")
    digest = Digest.of(b"content")
    await store.blobs.put(digest, b"content")
    assert await store.blobs.read(digest) == b"content"
    assert await store.blobs.sweep(digest, float("inf"), float("inf"))
    assert await store.blobs.read(digest) is None
    await store.aclose()


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
    await store.aclose()
