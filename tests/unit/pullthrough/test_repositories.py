# SPDX-License-Identifier: Apache-2.0
"""Repositories that share blobs, and pushes, which win over upstream."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator

import pytest
from buildset_registry.auth.rights import NOTHING_ELSE
from buildset_registry.errors import BlobUnknown, ManifestUnknown, UpstreamBusy, UpstreamFailed
from buildset_registry.oci.descriptor import OCI_INDEX
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.pullthrough import PullThrough
from buildset_registry.pullthrough.download import DownloadStream
from buildset_registry.registry import Registry
from buildset_registry.store.base import BlobFile
from buildset_registry.store.filesystem.store import FilesystemStore

from tests.unit.pullthrough.reading import ALL, OTHER, OTHER_PATH, PUSHED, May, arriving, read
from tests.unit.upstream.lab import (
    BLOB,
    BLOB_DIGEST,
    BLOB_PATH,
    MANIFEST,
    NAME,
    V1,
    V1_PATH,
    Answer,
    Server,
    blob,
    by_method,
    eventually,
    gated,
    halting,
    manifest,
    reply,
    streamed,
)


def image(config_type: str) -> bytes:
    """Return a manifest whose config is the blob."""
    config = {"mediaType": config_type, "digest": str(BLOB_DIGEST), "size": len(BLOB)}
    return json.dumps({"schemaVersion": 2, "config": config, "layers": []}).encode()


async def test_a_blob_that_is_collected_while_upstream_is_asked(
    registry: Registry, store: FilesystemStore, quay: Server
) -> None:
    """It is fetched then."""
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB
    gate = asyncio.Event()
    quay.on(OTHER_PATH, by_method(HEAD=gated(gate, blob()), GET=blob()))
    waiting = asyncio.create_task(registry.blob(OTHER, BLOB_DIGEST, ALL))
    await eventually(lambda: len(quay.asked) == 2)
    assert await store.blobs.sweep(BLOB_DIGEST, time.time() + 60, time.time() + 60)
    gate.set()
    assert await read(await waiting) == BLOB


async def test_a_push_while_upstream_is_asked_wins(
    registry: Registry, quay: Server, store: FilesystemStore
) -> None:
    """The request that waited gets the pushed image, and so does every later one."""
    gate = asyncio.Event()
    quay.on(V1_PATH, gated(gate, manifest()))
    waiting = asyncio.create_task(registry.manifest(NAME, V1))
    await eventually(lambda: quay.asked)
    await Registry(store).push_manifest(NAME, [V1], PUSHED, OCI_INDEX)
    gate.set()
    assert (await waiting).raw == PUSHED
    assert (await registry.manifest(NAME, V1)).raw == PUSHED


async def test_deleting_the_pushed_tag_uncovers_upstreams(
    registry: Registry, store: FilesystemStore
) -> None:
    """Upstream's image of that tag is seen again."""
    assert (await registry.manifest(NAME, V1)).raw == MANIFEST
    await Registry(store).push_manifest(NAME, [V1], PUSHED, OCI_INDEX)
    assert (await registry.manifest(NAME, V1)).raw == PUSHED
    await Registry(store).delete_tag(NAME, V1)
    assert (await registry.manifest(NAME, V1)).raw == MANIFEST


async def test_a_pushed_blob_is_served_without_upstream(
    registry: Registry, store: FilesystemStore, quay: Server
) -> None:
    """It is the buildset's own."""
    upload = await Registry(store).start_upload(NAME)

    async def body() -> AsyncIterator[bytes]:
        yield BLOB

    await upload.append(body())
    await Registry(store).finish_upload(NAME, upload, BLOB_DIGEST)
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB
    assert quay.asked == []


async def test_a_blob_of_another_repository_is_not_fetched_again(
    registry: Registry, quay: Server, pull_through: PullThrough
) -> None:
    """Upstream is asked whether this repository has it, and the stored copy is served; that it has
    not, HEAD alone does not say."""
    pulled = arriving(await registry.blob(NAME, BLOB_DIGEST))
    await pulled.complete()
    with pytest.raises(BlobUnknown):
        await registry.blob(OTHER, BLOB_DIGEST, ALL)
    quay.on(OTHER_PATH, blob())
    found = await asyncio.gather(*(registry.blob(OTHER, BLOB_DIGEST, ALL) for _ in range(10)))
    assert {await read(one) for one in found} == {BLOB}
    methods = [(asked.method, asked.path) for asked in quay.asked]
    lacking = [("HEAD", OTHER_PATH), ("GET", OTHER_PATH)]
    assert methods == [("GET", BLOB_PATH), *lacking, ("HEAD", OTHER_PATH)]
    assert pull_through.counters.hits == {"blob": 10}


async def test_a_blob_that_two_repositories_share_is_fetched_once(
    registry: Registry, quay: Server, store: FilesystemStore
) -> None:
    """Also when both are asked at the same time; upstream tells that the second has it, too."""
    gate = asyncio.Event()
    quay.on(BLOB_PATH, halting(gate, BLOB, 1000))
    quay.on(OTHER_PATH, blob())
    names = (NAME, OTHER, OTHER)
    found = [await registry.blob(name, BLOB_DIGEST, ALL) for name in names]
    assert await registry.blob_size(OTHER, BLOB_DIGEST, ALL) == len(BLOB)
    gate.set()
    assert [await read(one) for one in found] == [BLOB] * 3
    methods = [(asked.method, asked.path) for asked in quay.asked]
    assert methods == [("GET", BLOB_PATH), ("HEAD", OTHER_PATH)]
    for name in names:
        assert await store.cached(name).layers.has(BLOB_DIGEST)


async def test_a_shared_blob_of_a_registry_that_tells_no_sizes(
    registry: Registry, quay: Server
) -> None:
    """While it is on its way, too: that the second repository has it, its image says."""
    gate = asyncio.Event()
    quay.on(BLOB_PATH, gated(gate, streamed(BLOB)))
    quay.on(OTHER_PATH, by_method(HEAD=reply(405), GET=streamed(BLOB)))
    first = asyncio.create_task(registry.blob(NAME, BLOB_DIGEST))
    await eventually(lambda: quay.at(BLOB_PATH))
    with pytest.raises(UpstreamFailed, match="does not say how large"):
        await registry.blob(OTHER, BLOB_DIGEST, ALL)
    quay.on("/v2/org/other/manifests/v1", manifest(image("a/b"), ""))
    await registry.manifest(OTHER, V1)
    second = asyncio.create_task(registry.blob(OTHER, BLOB_DIGEST, ALL))
    await eventually(lambda: len(quay.at(OTHER_PATH)) == 4)
    gate.set()
    assert [await read(await one) for one in (first, second)] == [BLOB] * 2
    assert len(quay.at(BLOB_PATH)) == 1


async def test_a_shared_blob_that_the_first_repository_lacks(
    registry: Registry, quay: Server
) -> None:
    """Who asks in the second one is served."""
    gate = asyncio.Event()
    quay.on(BLOB_PATH, gated(gate, reply(404)))
    quay.on(OTHER_PATH, blob())
    lacking = asyncio.create_task(registry.blob(NAME, BLOB_DIGEST))
    await eventually(lambda: quay.asked)
    having = asyncio.create_task(registry.blob(OTHER, BLOB_DIGEST, ALL))
    await eventually(lambda: len(quay.asked) == 2)
    await asyncio.sleep(0.05)
    gate.set()
    with pytest.raises(BlobUnknown, match="org/app"):
        await lacking
    assert await read(await having) == BLOB


async def test_a_shared_blob_that_arrives_before_upstream_tells(
    registry: Registry, quay: Server
) -> None:
    """It is served from the store then."""
    gates = asyncio.Event(), asyncio.Event()
    quay.on(BLOB_PATH, halting(gates[0], BLOB, 1000))
    quay.on(OTHER_PATH, gated(gates[1], blob()))
    first = await registry.blob(NAME, BLOB_DIGEST)
    second = asyncio.create_task(registry.blob(OTHER, BLOB_DIGEST, ALL))
    await eventually(lambda: len(quay.asked) == 2)
    gates[0].set()
    assert isinstance(first, DownloadStream)
    await first.complete()
    gates[1].set()
    assert await read(await second) == BLOB
    assert [asked.method for asked in quay.asked].count("GET") == 1


async def test_a_blob_of_another_repository_while_upstream_is_down(
    registry: Registry, quay: Server
) -> None:
    """It is served where an image that came from this repository refers to it, else it is not."""
    child = image("a/b")
    lost = {"mediaType": OCI_INDEX, "digest": str(Digest.of(b"lost")), "size": 4}
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": str(Digest.of(child)),
        "size": len(child),
    }
    index = json.dumps({"schemaVersion": 2, "manifests": [entry, lost]}).encode()
    quay.on("/v2/org/other/manifests/v1", manifest(index))
    quay.on(f"/v2/org/other/manifests/{Digest.of(child)}", manifest(child, str(entry["mediaType"])))
    pulled = arriving(await registry.blob(NAME, BLOB_DIGEST))
    await pulled.complete()
    await registry.manifest(OTHER, V1)
    quay.on(OTHER_PATH, reply(503))
    with pytest.raises(UpstreamFailed):
        await registry.blob(OTHER, BLOB_DIGEST, ALL)
    await registry.manifest(OTHER, Digest.of(child))
    assert await registry.blob_size(OTHER, BLOB_DIGEST, ALL) == len(BLOB)
    assert await read(await registry.blob(OTHER, BLOB_DIGEST, ALL)) == BLOB


async def test_a_blob_of_an_image_pulled_by_digest_while_upstream_is_down(
    registry: Registry, quay: Server
) -> None:
    """A digest leads to the image as a tag does."""
    pinned = image("a/b")
    media_type = "application/vnd.oci.image.manifest.v1+json"
    path = f"/v2/org/other/manifests/{Digest.of(pinned)}"
    quay.on(path, manifest(pinned, media_type))
    await arriving(await registry.blob(NAME, BLOB_DIGEST)).complete()
    await registry.manifest(OTHER, Digest.of(pinned))
    quay.on(OTHER_PATH, reply(503))
    for rights in (NOTHING_ELSE, May(frozenset({OTHER}))):
        with pytest.raises(UpstreamFailed):
            await registry.blob(OTHER, BLOB_DIGEST, rights)
        with pytest.raises(UpstreamFailed):
            await registry.blob_size(OTHER, BLOB_DIGEST, rights)
    for rights in (May(frozenset({NAME})), ALL):
        assert await read(await registry.blob(OTHER, BLOB_DIGEST, rights)) == BLOB


async def test_upstreams_word_is_no_right_to_what_is_stored(
    registry: Registry, store: FilesystemStore, quay: Server
) -> None:
    """Who may not read it where it is gets what upstream sends, or nothing."""
    await arriving(await registry.blob(NAME, BLOB_DIGEST)).complete()
    quay.on(OTHER_PATH, by_method(HEAD=blob(), GET=reply(404)))
    with pytest.raises(BlobUnknown):
        await registry.blob(OTHER, BLOB_DIGEST)
    assert not await store.cached(OTHER).layers.has(BLOB_DIGEST)
    quay.on(OTHER_PATH, blob())
    sent = arriving(await registry.blob(OTHER, BLOB_DIGEST))
    assert await read(sent) == BLOB
    await sent.complete()
    assert await store.cached(OTHER).layers.has(BLOB_DIGEST)


async def test_who_may_read_it_opens_it_to_nobody_else(
    registry: Registry, store: FilesystemStore, quay: Server
) -> None:
    """A private blob is not linked where others may read, because somebody asked for it there."""
    quay.on(OTHER_PATH, by_method(HEAD=blob(), GET=reply(404)))
    await arriving(await registry.blob(NAME, BLOB_DIGEST)).complete()
    for rights in (May(frozenset({NAME})), May(frozenset({None}))):
        assert await read(await registry.blob(OTHER, BLOB_DIGEST, rights)) == BLOB
        assert not await store.cached(OTHER).layers.has(BLOB_DIGEST)
    with pytest.raises(BlobUnknown):
        await registry.blob(OTHER, BLOB_DIGEST)
    public = frozenset({NAME})
    assert await read(await registry.blob(OTHER, BLOB_DIGEST, May(public, public))) == BLOB
    assert await store.cached(OTHER).layers.has(BLOB_DIGEST)


async def test_a_download_is_shared_by_those_who_may_read_it(
    registry: Registry, store: FilesystemStore, quay: Server
) -> None:
    """Others get what upstream sends for their own repository."""
    gate = asyncio.Event()
    quay.on(BLOB_PATH, halting(gate, BLOB, 1000))
    quay.on(OTHER_PATH, by_method(HEAD=blob(), GET=reply(404)))
    first = arriving(await registry.blob(NAME, BLOB_DIGEST))
    for rights in (NOTHING_ELSE, May(frozenset({NAME}))):
        with pytest.raises(BlobUnknown):
            await registry.blob(OTHER, BLOB_DIGEST, rights)
    quay.on(OTHER_PATH, blob())
    second = arriving(await registry.blob(OTHER, BLOB_DIGEST))
    assert await read(second) == BLOB
    await second.complete()
    gate.set()
    assert await read(first) == BLOB
    for name in (NAME, OTHER):
        assert await store.cached(name).layers.has(BLOB_DIGEST)


async def test_a_blob_that_another_repository_no_longer_has(
    registry: Registry, store: FilesystemStore, quay: Server
) -> None:
    """What is remembered of where it was is looked at again."""
    await arriving(await registry.blob(NAME, BLOB_DIGEST)).complete()
    await store.cached(NAME).layers.remove(BLOB_DIGEST)
    quay.on(OTHER_PATH, by_method(HEAD=blob(), GET=reply(404)))
    with pytest.raises(BlobUnknown):
        await registry.blob(OTHER, BLOB_DIGEST, May(frozenset({NAME}), frozenset({NAME})))


async def test_a_pushed_image_may_use_upstreams_layers(
    registry: Registry, store: FilesystemStore
) -> None:
    """A layer that the client left out because upstream has it becomes a pushed one."""
    await registry.push_manifest(NAME, [Tag("mine")], image("x/y"))
    assert await store.pushed(NAME).layers.has(BLOB_DIGEST)
    assert await store.blobs.size(BLOB_DIGEST) == len(BLOB)


async def test_other_repositories_never_reach_upstream(registry: Registry, quay: Server) -> None:
    """Only configured registries are asked."""
    other = RepositoryName("example.com/app")
    with pytest.raises(ManifestUnknown):
        await registry.manifest(other, V1)
    with pytest.raises(BlobUnknown):
        await registry.blob(other, BLOB_DIGEST)
    assert quay.asked == []


async def test_a_damaged_blob_is_fetched_again_once_it_was_deleted(
    registry: Registry, store: FilesystemStore
) -> None:
    """What upstream has now is of another size; what comes takes the place of what is there."""
    await arriving(await registry.blob(NAME, BLOB_DIGEST)).complete()
    stored = await store.blobs.open(BLOB_DIGEST)
    assert isinstance(stored, BlobFile)
    os.truncate(stored.path, 100)
    await Registry(store).delete_blob(NAME, BLOB_DIGEST)
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB
    assert stored.path.read_bytes() == BLOB


async def test_a_blob_that_two_cached_repositories_share_is_promised_to_nobody(
    registry: Registry, store: FilesystemStore, quay: Server
) -> None:
    """Only a client that pushes is; so it goes with the last image, when the cache is cut."""
    await arriving(await registry.blob(NAME, BLOB_DIGEST)).complete()
    quay.on(OTHER_PATH, blob())
    assert await read(await registry.blob(OTHER, BLOB_DIGEST, ALL)) == BLOB
    ((state,),) = [batch async for batch in store.blobs.walk() if batch]
    assert state.promised == 0
    assert state.changed > 0


@pytest.mark.parametrize(
    ("head", "get", "there"),
    [
        (manifest(), manifest(), True),
        (reply(404), manifest(), True),
        (reply(403), manifest(), True),
        (reply(404), reply(404), False),
        (reply(403), reply(404), False),
        (reply(403), reply(403), True),
        (reply(404), reply(403), True),
    ],
    ids=[
        *("there", "by GET alone", "HEAD denied", "gone", "HEAD denied and gone"),
        *("hidden", "hidden from GET"),
    ],
)
async def test_whether_upstream_has_a_manifest(
    pull_through: PullThrough, quay: Server, head: Answer, get: Answer, there: bool
) -> None:
    """GET decides; one that hides what it has may have it, and one that fails does not tell."""
    path = f"/v2/org/app/manifests/{Digest.of(MANIFEST)}"
    quay.on(path, by_method(HEAD=head, GET=get))
    assert await pull_through.has_manifest(NAME, Digest.of(MANIFEST)) is there
    assert not await pull_through.has_manifest(RepositoryName("example.com/app"), BLOB_DIGEST)
    quay.on(path, reply(429))
    with pytest.raises(UpstreamBusy):
        await pull_through.has_manifest(NAME, Digest.of(MANIFEST))
