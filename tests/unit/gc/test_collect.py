# SPDX-License-Identifier: Apache-2.0
"""Collections over every store, through the registry's own use cases."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.errors import BlobUnknown, ManifestBlobUnknown, ManifestUnknown
from buildset_registry.gc import Collector, Report, Rules, collect
from buildset_registry.gc.report import Progress
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem import FilesystemStore
from buildset_registry.store.memory import MemoryStore

NAME, OTHER = RepositoryName("org/app"), RepositoryName("org/other")
#: Everything that is there is old already.
OLD = -1000.0
RULES = Rules(grace=OLD, untagged=None, uploads=OLD, cache_size=None, pulling=OLD, settling=OLD)
UNTAGGED = replace(RULES, untagged=OLD)


@pytest.fixture(params=["filesystem", "memory"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[FilesystemStore | MemoryStore]:
    made = FilesystemStore(tmp_path / "store") if request.param == "filesystem" else MemoryStore()
    with contextlib.closing(made):
        yield made


@pytest.fixture
def registry(store: FilesystemStore | MemoryStore) -> Registry:
    return Registry(store)


def silent(progress: Progress) -> None:
    """Watch a collection without a word."""


async def clean(
    store: FilesystemStore | MemoryStore, rules: Rules = RULES, dry_run: bool = False
) -> Report:
    return await collect(store, rules, silent, dry_run=dry_run)


async def chunks(content: bytes) -> AsyncIterator[Any]:
    yield content


async def push_blob(registry: Registry, name: RepositoryName, content: bytes) -> dict[str, Any]:
    upload = await registry.start_upload(name)
    await upload.append(chunks(content))
    digest = Digest.of(content)
    await registry.finish_upload(name, upload, digest)
    return descriptor(digest, len(content))


def descriptor(
    digest: Digest, size: int, media_type: str = "application/octet-stream"
) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(digest), "size": size}


async def push_image(
    registry: Any, *tags: Any, name: Any = NAME, layers: Any = (b"layer",), subject: Any = None
) -> dict[str, Any]:
    """Push an image, under tags or by its digest, and return its descriptor."""
    tree = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": await push_blob(registry, name, b"{}"),
        "layers": [await push_blob(registry, name, layer) for layer in layers],
    }
    if subject is not None:
        tree["subject"] = subject
    return await push(registry, name, tree, tags)


async def push_index(
    registry: Registry, *tags: Any, children: list[dict[str, int | str]]
) -> dict[str, Any]:
    tree = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
    return await push(registry, NAME, tree, tags)


async def push(
    registry: Registry,
    name: RepositoryName,
    tree: dict[str, Any],
    tags: list[str] | tuple[Any, ...],
) -> dict[str, Any]:
    raw = json.dumps(tree).encode()
    await registry.push_manifest(
        name, [Tag(tag) for tag in tags] or [Digest.of(raw)], raw, tree["mediaType"]
    )
    return descriptor(Digest.of(raw), len(raw), tree["mediaType"])


def digest_of(described: dict[str, Any]) -> Digest:
    return Digest.parse(described["digest"])


async def blobs(store: FilesystemStore | MemoryStore) -> set[Digest]:
    return {state.digest async for batch in store.blobs.walk() for state in batch}


async def is_whole(registry: Registry, name: RepositoryName, described: dict[str, Any]) -> bool:
    """Tell whether an image can be pulled, with everything in it."""
    try:
        found = await registry.manifest(name, digest_of(described))
        tree = json.loads(found.raw)
        for part in [tree["config"], *tree["layers"]]:
            blob: Any = await registry.blob(name, digest_of(part))
            assert Digest.of(blob.path.read_bytes()) == digest_of(part)
    except (ManifestUnknown, BlobUnknown):
        return False
    return True


async def test_what_nothing_refers_to_goes(
    store: FilesystemStore | MemoryStore, registry: Registry
) -> None:
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
    store: FilesystemStore | MemoryStore, registry: Registry
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
    assert Report.from_json(json.loads(json.dumps(done.to_json()))) == done


async def test_the_young_stay(store: FilesystemStore | MemoryStore, registry: Registry) -> None:
    """A blob within the grace period, or that changed since the collection began."""
    await push_blob(registry, NAME, b"stray")
    assert (await clean(store, replace(RULES, grace=3600))).blobs == 0
    assert (await clean(store, replace(RULES, settling=3600))).blobs == 0
    assert (await clean(store, RULES)).blobs == 1


async def test_a_deleted_image_goes_but_not_what_others_need(
    store: FilesystemStore | MemoryStore, registry: Registry
) -> None:
    """Layers are shared between images and repositories."""
    image = await push_image(registry, "one", layers=(b"shared", b"own"))
    other = await push_image(registry, "one", name=OTHER, layers=(b"shared",))
    await registry.delete_manifest(NAME, digest_of(image))
    report = await clean(store)
    assert report.freed_bytes == image["size"] + len(b"own")
    assert await is_whole(registry, OTHER, other)


async def test_manifests_without_a_tag_stay_unless_that_is_wanted(
    store: FilesystemStore | MemoryStore, registry: Registry
) -> None:
    """An index holds what it lists."""
    child, stray = await push_image(registry), await push_image(registry, layers=(b"stray",))
    await push_index(registry, "multi", children=[child])
    assert (await clean(store)).removed == []
    report = await clean(store, UNTAGGED)
    assert [one.name for one in report.removed] == [f"{NAME}@{stray['digest']}"]
    assert await is_whole(registry, NAME, child)
    assert not await is_whole(registry, NAME, stray)


async def test_a_manifest_that_loses_its_tag_has_its_time(
    store: FilesystemStore | MemoryStore, registry: Registry
) -> None:
    """It counts from then, however old the push is."""
    await push_image(registry, "latest", layers=(b"old",))
    before = time.time()
    await push_image(registry, "latest", layers=(b"new",))
    manifests = await store.pushed(NAME).manifests.all()
    assert all(state.used >= before - 0.1 for state in manifests)


async def test_a_referrer_lives_as_long_as_its_subject(
    store: FilesystemStore | MemoryStore, registry: Registry
) -> None:
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
    listed = await registry.referrers(NAME, digest_of(image), None)
    assert [one.digest for one in listed] == [digest_of(named)]


async def test_a_referrer_may_come_before_its_subject(
    store: FilesystemStore | MemoryStore, registry: Registry
) -> None:
    """Within the grace period."""
    later = descriptor(Digest.of(b"later"), 5, OCI_MANIFEST)
    signature = await push_image(registry, subject=later)
    assert (await clean(store, replace(RULES, grace=3600))).removed == []
    assert await is_whole(registry, NAME, signature)


async def test_uploads_expire(store: FilesystemStore | MemoryStore, registry: Registry) -> None:
    """Those that rested for long, and no others."""
    upload = await registry.start_upload(NAME)
    assert (await clean(store, replace(RULES, uploads=3600))).removed == []
    report = await clean(store)
    assert [one.kind for one in report.removed] == ["upload"]
    assert str(upload.id) in report.removed[0].name


async def test_a_damaged_manifest_stops_the_removal_of_blobs(
    store: FilesystemStore | MemoryStore, registry: Registry
) -> None:
    """What it referred to is not known any more, so nothing goes, and the report says why."""
    image = await push_image(registry, "latest")
    await push_blob(registry, NAME, b"stray")
    blob = await store.blobs.open(digest_of(image))
    assert blob
    blob.path.write_bytes(b"x" * image["size"])
    report = await clean(store)
    assert (report.blobs, len(report.problems)) == (0, 1)
    assert image["digest"] in report.problems[0]


async def cache_image(
    store: FilesystemStore | MemoryStore, name: RepositoryName, *layers: Any, tag: str = "latest"
) -> dict[str, Any]:
    """Store an image as pull-through does."""
    index = store.cached(name)
    described = []
    for layer in layers:
        upload = await store.blobs.ingest()
        await upload.append(chunks(layer))
        await upload.commit(Digest.of(layer))
        await index.layers.add(Digest.of(layer))
        described.append(descriptor(Digest.of(layer), len(layer)))
    # The clock of files ticks every few milliseconds: layers that images share must be older.
    await asyncio.sleep(0.02)
    tree = {"schemaVersion": 2, "config": described[0], "layers": described[1:]}
    raw = json.dumps(tree).encode()
    await store.blobs.put(Digest.of(raw), raw)
    await index.manifests.add(Digest.of(raw))
    await index.tags.set(Tag(tag), Digest.of(raw))
    return descriptor(Digest.of(raw), len(raw))


async def test_the_cache_stays_without_a_limit(
    store: FilesystemStore | MemoryStore, registry: Registry
) -> None:
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


async def test_the_cache_is_cut_to_its_size(
    store: FilesystemStore | MemoryStore, registry: Registry
) -> None:
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


async def test_what_is_being_pulled_is_not_evicted(
    store: FilesystemStore | MemoryStore, registry: Registry
) -> None:
    """The cache is larger than it may be, for a while."""
    image = await cache_image(store, NAME, b"{}", b"layer")
    rules = replace(RULES, cache_size=0, pulling=600)
    assert (await clean(store, rules)).removed == []
    assert await is_whole(registry, NAME, image)


async def test_eviction_never_touches_a_push(
    store: FilesystemStore | MemoryStore, registry: Registry
) -> None:
    """Not even content that upstream gave first, and that a push then left out."""
    cached = await cache_image(store, NAME, b"{}", b"layer")
    assert await registry.promised_size(NAME, Digest.of(b"layer")) == 5
    pushed = await push_image(registry, "mine", layers=(b"layer", b"own"))
    report = await clean(store, replace(RULES, cache_size=0))
    assert [one.name for one in report.removed] == [f"{NAME}@{cached['digest']}"]
    assert await is_whole(registry, NAME, pushed)


async def test_a_promised_blob_outlives_the_eviction(
    store: FilesystemStore | MemoryStore, registry: Registry
) -> None:
    """A client was told that it need not push it, and pushes the manifest later."""
    await cache_image(store, NAME, b"{}", b"layer")
    await registry.promised_size(NAME, Digest.of(b"layer"))
    await clean(store, replace(RULES, cache_size=0, grace=3600))
    assert await registry.mount(OTHER, Digest.of(b"layer"), NAME)
    await clean(store, replace(RULES, cache_size=0, grace=3600))
    assert await registry.promised_size(OTHER, Digest.of(b"layer")) == 5


async def test_the_collector_runs_from_time_to_time(
    store: FilesystemStore | MemoryStore, registry: Registry
) -> None:
    """And one at a time when asked."""
    await push_blob(registry, NAME, b"stray")
    collector = Collector(store, RULES, 0.01)
    deadline = time.monotonic() + 10
    while await blobs(store):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    one, two = await asyncio.gather(*(collector.run(silent, dry_run=True) for _ in range(2)))
    assert (one.blobs, two.blobs) == (0, 0)
    await collector.close()


async def test_a_promise_in_the_middle_of_a_collection(tmp_path: Path) -> None:
    """After the marking and before the removal a client asks: it keeps what it was told of."""
    with contextlib.closing(FilesystemStore(tmp_path / "store")) as store:
        registry = Registry(store)
        for content in (b"head", b"mount", b"push", b"nobody"):
            await push_blob(registry, NAME, content)
            blob = await store.blobs.open(Digest.of(content))
            assert blob
            os.utime(blob.path, (0, 0))

        async def meanwhile() -> None:
            await registry.promised_size(NAME, Digest.of(b"head"))
            await registry.mount(OTHER, Digest.of(b"mount"), NAME)
            await push_blob(registry, NAME, b"push")

        clients: list[Any] = []

        def watch(progress: Progress) -> None:
            if progress.stage == "cache" and not clients:
                clients.append(asyncio.ensure_future(meanwhile()))

        report = await collect(store, replace(RULES, grace=3600), watch, dry_run=False)
        await clients[0]
        assert report.blobs >= 1
        assert await blobs(store) == {Digest.of(one) for one in (b"head", b"mount", b"push")}


class Crowd:
    """Clients that push, skip what is there, and delete, while collections run."""

    GRACE = 0.5

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.acknowledged: dict[Any, Any] = {}
        self.refused = 0

    async def work(self, name: Any, rounds: Any) -> None:
        for number in range(rounds):
            layers = [b"layer %d" % (number * 7 % 5 + step) for step in range(3)]
            began = time.monotonic()
            try:
                self.acknowledged[name] = await self._push(name, [b"{}", *layers])
            except ManifestBlobUnknown:
                # Too slow for the grace period: the client is told so, and would push again.
                assert time.monotonic() - began > self.GRACE
                self.refused += 1
            if number % 3 == 2:
                image = self.acknowledged.pop(name, None)
                if image is not None:
                    await self.registry.delete_manifest(name, digest_of(image))

    async def _push(self, name: RepositoryName, contents: list[bytes]) -> dict[str, Any]:
        described = []
        for content in contents:
            try:
                size = await self.registry.promised_size(name, Digest.of(content))
                described.append(descriptor(Digest.of(content), size))
            except BlobUnknown:
                described.append(await push_blob(self.registry, name, content))
        tree = {"schemaVersion": 2, "config": described[0], "layers": described[1:]}
        return await push(self.registry, name, tree | {"mediaType": OCI_MANIFEST}, ["latest"])


async def test_pushes_and_collections_at_once(tmp_path: Path) -> None:
    """However they interleave, every image that was acknowledged is whole at the end."""
    with contextlib.closing(FilesystemStore(tmp_path / "store", promise_seconds=0)) as store:
        registry = Registry(store)
        crowd = Crowd(registry)
        rules = replace(RULES, grace=Crowd.GRACE, settling=0.05)
        names = [RepositoryName(f"app{number}") for number in range(4)]
        working = asyncio.gather(*(crowd.work(name, 40) for name in names))
        swept = 0
        while not working.done():
            swept += (await collect(store, rules, silent, dry_run=False)).blobs
            await asyncio.sleep(0.01)
        await working
        assert len(crowd.acknowledged) == len(names)
        for name, image in crowd.acknowledged.items():
            assert await is_whole(registry, name, image)
        await asyncio.sleep(Crowd.GRACE * 1.2)
        swept += (await collect(store, rules, silent, dry_run=False)).blobs
        assert swept > 0
        for name, image in crowd.acknowledged.items():
            assert await is_whole(registry, name, image)
