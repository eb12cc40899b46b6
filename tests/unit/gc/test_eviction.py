# SPDX-License-Identifier: Apache-2.0
"""Eviction of what was pulled through: the choice on paper, and the removal over every store."""

import asyncio
from dataclasses import replace

import pytest
from buildset_registry.gc.eviction import CacheEntry, evictions
from buildset_registry.gc.reachability import key
from buildset_registry.oci.digest import Digest
from buildset_registry.registry import Registry
from buildset_registry.store.base import Store

from tests.unit.gc.images import (
    NAME,
    OTHER,
    RULES,
    UNTAGGED,
    cache_image,
    clean,
    is_whole,
    push_image,
)
from tests.unit.pullthrough.reading import ALL

A, B, C, D, E = (Digest.of(letter.encode()) for letter in "ABCDE")


def entry(
    digest: Digest,
    *layers: Digest,
    used: int,
    name: str = "app",
    children: tuple[Digest, ...] = (),
) -> CacheEntry:
    return CacheEntry(name, digest, layers, children, None, used)


SIZES = {key(digest): 10 for digest in (A, B, C, D)}


@pytest.mark.parametrize(
    ("limit", "gone"), [(40, []), (39, [A]), (30, [A]), (29, [A, B]), (0, [A, B, C])]
)
def test_the_longest_unused_goes_first(limit: int, gone: list[Digest]) -> None:
    """Just as much as is needed; what is in use stays even if that is too much."""
    entries = [entry(C, used=3), entry(A, used=1), entry(B, used=2), entry(D, used=9)]
    assert [one.digest for one in evictions(entries, SIZES, limit, 5)] == gone


def test_shared_content_goes_with_its_last_holder() -> None:
    """Evicting one of two images with the same layer frees only what is its own."""
    entries = [entry(A, C, used=1), entry(B, C, used=2)]
    assert [one.digest for one in evictions(entries, SIZES, 20, 5)] == [A]
    assert [one.digest for one in evictions(entries, SIZES, 19, 5)] == [A, B]


def test_what_a_job_pushed_too_costs_nothing() -> None:
    """Evicting it would free nothing, so it does not count."""
    assert evictions([entry(E, used=1)], SIZES, 0, 5) == []


def test_an_image_is_as_young_as_the_index_it_was_found_by() -> None:
    """The client asked for the index last, and has the image already."""
    entries = [entry(A, used=4, children=(B,)), entry(B, used=1), entry(C, used=2)]
    assert [one.digest for one in evictions(entries, SIZES, 20, 5)] == [C]
    other = [entry(A, used=4, children=(B,), name="other"), entry(B, used=1), entry(C, used=2)]
    assert [one.digest for one in evictions(other, SIZES, 20, 5)] == [B]


async def test_the_cache_stays_without_a_limit(store: Store, registry: Registry) -> None:
    """Whole images, and blobs that somebody fetched alone; however old they are."""
    image = await cache_image(store, NAME, b"{}", b"layer")
    await cache_image(store, OTHER, b"alone")
    await store.cached(OTHER).manifests.remove(
        (await store.cached(OTHER).manifests.all())[0].digest
    )
    report = await clean(store, UNTAGGED)
    assert (report.removed, report.blobs) == ([], 1)
    assert await is_whole(registry, NAME, image)
    assert await registry.blob_size(OTHER, Digest.of(b"alone")) == 5


async def test_the_cache_is_cut_to_its_size(store: Store, registry: Registry) -> None:
    """The longest unused image goes, tag and all; what is used by another stays."""
    old = await cache_image(store, NAME, b"{}", b"old" * 1000, b"base" * 1000)
    await asyncio.sleep(0.02)
    new = await cache_image(store, NAME, b"{}", b"new" * 1000, b"base" * 1000, tag="new")
    rules = replace(RULES, cache_size=8000)
    report = await clean(store, rules)
    assert [one.name for one in report.removed] == [f"{NAME}@{old['digest']}"]
    assert await is_whole(registry, NAME, new)
    assert await store.cached(NAME).tags.all() == ["new"]
    assert await store.blobs.size(Digest.of(b"old" * 1000)) is None
    assert (await clean(store, rules)).removed == []


async def test_what_is_being_pulled_is_not_evicted(store: Store, registry: Registry) -> None:
    """The cache is larger than it may be, for a while."""
    image = await cache_image(store, NAME, b"{}", b"layer")
    rules = replace(RULES, cache_size=0, pulling=600)
    assert (await clean(store, rules)).removed == []
    assert await is_whole(registry, NAME, image)


async def test_eviction_never_touches_a_push(store: Store, registry: Registry) -> None:
    """Not even content that upstream gave first, and that a push then left out."""
    cached = await cache_image(store, NAME, b"{}", b"layer")
    assert await registry.promised_size(NAME, Digest.of(b"layer")) == 5
    pushed = await push_image(registry, "mine", layers=(b"layer", b"own"))
    report = await clean(store, replace(RULES, cache_size=0))
    assert [one.name for one in report.removed] == [f"{NAME}@{cached['digest']}"]
    assert await is_whole(registry, NAME, pushed)


async def test_a_promised_blob_outlives_the_eviction(store: Store, registry: Registry) -> None:
    """A client was told that it need not push it, and pushes the manifest later."""
    await cache_image(store, NAME, b"{}", b"layer")
    await registry.promised_size(NAME, Digest.of(b"layer"))
    await clean(store, replace(RULES, cache_size=0, grace=3600))
    assert await registry.mount(OTHER, Digest.of(b"layer"), NAME, ALL)
    await clean(store, replace(RULES, cache_size=0, grace=3600))
    assert await registry.promised_size(OTHER, Digest.of(b"layer")) == 5
