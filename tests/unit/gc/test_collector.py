# SPDX-License-Identifier: Apache-2.0
"""Collections over every store, through the registry's own use cases."""

import asyncio
import json
import math
import time
from dataclasses import replace

import pytest
from buildset_registry.errors import BlobUnknown
from buildset_registry.gc import CollectionReport, Collector
from buildset_registry.oci.descriptor import OCI_MANIFEST
from buildset_registry.oci.digest import Digest
from buildset_registry.registry import Registry
from buildset_registry.store.base import Store

from tests.unit.gc.images import (
    NAME,
    OTHER,
    RULES,
    UNTAGGED,
    blobs,
    clean,
    descriptor,
    digest_of,
    is_whole,
    push_blob,
    push_image,
    push_index,
    silent,
)


async def test_what_nothing_refers_to_goes(store: Store, registry: Registry) -> None:
    """The blob, and the link to it; an image stays whole, and the blob can be pushed again."""
    image = await push_image(registry, "latest")
    stray = digest_of(await push_blob(registry, NAME, b"stray"))
    report = await clean(store)
    assert (report.blobs, report.freed_bytes, report.links) == (1, 5, 1)
    assert report.kept_blobs == 3
    assert await is_whole(registry, NAME, image)
    with pytest.raises(BlobUnknown):
        await registry.blob(NAME, stray)
    assert not await store.pushed(NAME).layers.has(stray)
    await push_blob(registry, NAME, b"stray")
    assert await registry.promised_size(NAME, stray) == 5


async def test_a_dry_run_tells_the_same_and_removes_nothing(
    store: Store, registry: Registry
) -> None:
    """Then the real one does just that."""
    await push_image(registry)
    await push_blob(registry, NAME, b"stray")
    await store.uploads.create(NAME)
    before = await blobs(store)
    told = await clean(store, UNTAGGED, dry_run=True)
    assert await blobs(store) == before
    done = await clean(store, UNTAGGED)
    assert {one.kind for one in done.removed} == {"upload", "manifest"}
    assert replace(told, dry_run=False, seconds=0) == replace(done, seconds=0)
    assert await blobs(store) == set()
    assert CollectionReport.from_json(json.loads(json.dumps(done.to_json()))) == done


async def test_blobs_that_are_young_stay(store: Store, registry: Registry) -> None:
    """A blob within the grace period, or that changed since the collection began."""
    await push_blob(registry, NAME, b"stray")
    assert (await clean(store, replace(RULES, grace=3600))).blobs == 0
    assert (await clean(store, replace(RULES, settling=3600))).blobs == 0
    assert (await clean(store, RULES)).blobs == 1


async def test_a_deleted_image_goes_but_not_what_others_need(
    store: Store, registry: Registry
) -> None:
    """Layers are shared between images and repositories."""
    image = await push_image(registry, "one", layers=(b"shared", b"own"))
    other = await push_image(registry, "one", name=OTHER, layers=(b"shared",))
    await registry.delete_manifest(NAME, digest_of(image))
    report = await clean(store)
    assert report.freed_bytes == image["size"] + len(b"own")
    assert await is_whole(registry, OTHER, other)


async def test_manifests_without_a_tag_stay_unless_that_is_wanted(
    store: Store, registry: Registry
) -> None:
    """An index holds what it lists."""
    child, stray = await push_image(registry), await push_image(registry, layers=(b"stray",))
    await push_index(registry, "multi", children=[child])
    assert (await clean(store)).removed == []
    report = await clean(store, UNTAGGED)
    assert [one.name for one in report.removed] == [f"{NAME}@{stray['digest']}"]
    assert await is_whole(registry, NAME, child)
    assert not await is_whole(registry, NAME, stray)


async def test_a_manifest_that_loses_its_tag_has_its_time(store: Store, registry: Registry) -> None:
    """It counts from then, however old the push is."""
    await push_image(registry, "latest", layers=(b"old",))
    before = time.time()
    await push_image(registry, "latest", layers=(b"new",))
    manifests = await store.pushed(NAME).manifests.all()
    assert all(state.used >= before - 0.1 for state in manifests)


async def test_a_referrer_lives_as_long_as_its_subject(store: Store, registry: Registry) -> None:
    """Or as it has a tag; afterwards the API does not list it any more."""
    image = await push_image(registry, "latest")
    signature = await push_image(registry, subject=image, layers=(b"signature",))
    named = await push_image(registry, "sbom", subject=image, layers=(b"sbom",))
    of_signature = await push_image(registry, subject=signature, layers=(b"more",))
    assert (await clean(store, UNTAGGED)).removed == []
    await registry.delete_manifest(NAME, digest_of(image))
    report = await clean(store)
    assert {one.name for one in report.removed} == {
        f"{NAME}@{one['digest']}" for one in (signature, of_signature)
    }
    assert await is_whole(registry, NAME, named)
    listed = (await registry.referrers(NAME, digest_of(image))).items
    assert [one.digest for one in listed] == [digest_of(named)]


async def test_a_referrer_may_come_before_its_subject(store: Store, registry: Registry) -> None:
    """Within the grace period."""
    later = descriptor(Digest.of(b"later"), 5, OCI_MANIFEST)
    signature = await push_image(registry, subject=later)
    assert (await clean(store, replace(RULES, grace=3600))).removed == []
    assert await is_whole(registry, NAME, signature)


async def test_uploads_that_rested_for_long_expire(store: Store, registry: Registry) -> None:
    """Those that rested for long, and no others."""
    upload = await registry.start_upload(NAME)
    assert (await clean(store, replace(RULES, uploads=3600))).removed == []
    report = await clean(store)
    assert [one.kind for one in report.removed] == ["upload"]
    assert str(upload.id) in report.removed[0].name


async def test_a_damaged_manifest_stops_the_removal_of_blobs(
    store: Store, registry: Registry
) -> None:
    """What it referred to is not known any more, so nothing goes, and the report says why."""
    image = await push_image(registry, "latest")
    await push_blob(registry, NAME, b"stray")
    assert await store.blobs.sweep(digest_of(image), math.inf, math.inf)
    await store.blobs.put(digest_of(image), b"x" * image["size"])
    report = await clean(store)
    assert (report.blobs, len(report.problems)) == (0, 1)
    assert image["digest"] in report.problems[0]


@pytest.mark.parametrize("what", ["index", "subject"])
async def test_what_a_damaged_manifest_holds_stays(
    store: Store, registry: Registry, what: str
) -> None:
    """The images of an index, and the signature of an image: it may be pushed again."""
    image = await push_image(registry, *(["v1"] if what == "subject" else []))
    if what == "index":
        held, damaged = image, await push_index(registry, "v1", children=[image])
    else:
        held, damaged = await push_image(registry, layers=[b"signature"], subject=image), image
    whole = await store.blobs.read(digest_of(damaged))
    assert whole
    assert await store.blobs.sweep(digest_of(damaged), math.inf, math.inf)
    await store.blobs.put(digest_of(damaged), b"x" * damaged["size"])
    report = await clean(store, UNTAGGED)
    assert (report.removed, len(report.problems)) == ([], 1)
    await store.blobs.put(digest_of(damaged), whole)
    assert (await clean(store, UNTAGGED)).removed == []
    assert await is_whole(registry, NAME, held)


async def test_a_signature_stays_where_the_content_of_its_subject_is_lost(
    store: Store, registry: Registry
) -> None:
    """It goes when the subject is deleted."""
    image = await push_image(registry, "v1")
    signature = await push_image(registry, layers=[b"signature"], subject=image)
    whole = await store.blobs.read(digest_of(image))
    assert whole
    assert await store.blobs.sweep(digest_of(image), math.inf, math.inf)
    assert (await clean(store)).removed == []
    assert await is_whole(registry, NAME, signature)
    await store.blobs.put(digest_of(image), whole)
    await registry.delete_manifest(NAME, digest_of(image))
    assert [one.name for one in (await clean(store)).removed] == [f"{NAME}@{signature['digest']}"]


async def test_the_collector_runs_from_time_to_time(store: Store, registry: Registry) -> None:
    """And one at a time when asked."""
    await push_blob(registry, NAME, b"stray")
    collector = Collector(store, RULES, 0.01)
    deadline = time.monotonic() + 60
    while await blobs(store):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    one, two = await asyncio.gather(*(collector.run(silent, dry_run=True) for _ in range(2)))
    assert (one.blobs, two.blobs) == (0, 0)
    await collector.close()
