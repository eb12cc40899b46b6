# SPDX-License-Identifier: Apache-2.0
"""Many clients and one upstream: it is asked once, and nobody waits longer than needed."""

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path

import pytest
from buildset_registry.errors import BlobUnknown, UpstreamBusy, UpstreamFailed
from buildset_registry.oci.names import RepositoryName
from buildset_registry.pullthrough import PullThrough
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem.store import FilesystemStore
from buildset_registry.upstream.client import UpstreamClient

from tests.unit.pullthrough.reading import PullingRegistry, arriving, read
from tests.unit.upstream.lab import (
    BLOB,
    BLOB_DIGEST,
    BLOB_PATH,
    MANIFEST,
    NAME,
    V1,
    V1_PATH,
    Server,
    blob,
    by_method,
    eventually,
    gated,
    halting,
    manifest,
    reply,
)


def open_blobs() -> list[Path]:
    """Return the files of blobs and uploads that this process has open."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [link for link in links if link.readlink().name == "data"]


async def test_fifty_clients_make_one_request(
    registry: Registry, quay: Server, pull_through: PullThrough
) -> None:
    """However many wait for a manifest or a blob, upstream is asked once."""
    gate = asyncio.Event()
    quay.on(V1_PATH, gated(gate, manifest()))
    quay.on(BLOB_PATH, gated(gate, blob()))
    manifests = [asyncio.create_task(registry.manifest(NAME, V1)) for _ in range(50)]
    blobs = [asyncio.create_task(registry.blob(NAME, BLOB_DIGEST)) for _ in range(50)]
    await eventually(lambda: len(quay.asked) == 2)
    gate.set()
    assert {(await task).raw for task in manifests} == {MANIFEST}
    assert {await read(await task) for task in blobs} == {BLOB}
    assert sorted(asked.path for asked in quay.asked) == sorted([V1_PATH, BLOB_PATH])
    assert pull_through.counters.misses == {"manifest": 1, "blob": 1}
    assert pull_through.counters.received == len(BLOB)


async def test_docker_hubs_two_names_of_an_image_make_one_request(
    store: FilesystemStore, quay: Server, connect: Callable[..., UpstreamClient]
) -> None:
    """``app`` and ``library/app`` are one image."""
    quay.on(f"/v2/library/app/blobs/{BLOB_DIGEST}", blob())
    quay.on("/v2/library/app/manifests/v1", manifest())
    registry = PullingRegistry(store, connect(name="docker.io"))
    names = [RepositoryName("app"), RepositoryName("library/app")]
    told = await asyncio.gather(*(registry.manifest(name, V1) for name in names))
    assert [one.raw for one in told] == [MANIFEST] * 2
    found = await asyncio.gather(*(registry.blob(name, BLOB_DIGEST) for name in names))
    assert [await read(one) for one in found] == [BLOB] * 2
    assert len(quay.asked) == 2
    await registry.close()


async def test_the_first_bytes_come_before_the_last_arrive(
    registry: Registry, quay: Server
) -> None:
    """A client reads while upstream still sends; a range waits for its own bytes only."""
    gate = asyncio.Event()
    quay.on(BLOB_PATH, halting(gate, BLOB, 1000))
    found = arriving(await registry.blob(NAME, BLOB_DIGEST))
    assert found.size == len(BLOB)
    assert await registry.blob_size(NAME, BLOB_DIGEST) == len(BLOB)
    assert await read(found, 10, 20) == BLOB[10:20]
    assert await read(found, 0, 0) == b""
    rest = asyncio.create_task(read(found))
    await asyncio.sleep(0.05)
    assert not rest.done()
    gate.set()
    assert await rest == BLOB
    assert len(quay.asked) == 1


async def test_a_client_that_leaves_spoils_nothing(
    registry: Registry, quay: Server, store: FilesystemStore
) -> None:
    """The transfer goes on and the blob is stored."""
    gate = asyncio.Event()
    quay.on(BLOB_PATH, halting(gate, BLOB, 1000))
    found = arriving(await registry.blob(NAME, BLOB_DIGEST))
    leaving = asyncio.create_task(read(found))
    await asyncio.sleep(0.05)
    leaving.cancel()
    gate.set()
    await found.complete()
    assert await store.blobs.read(BLOB_DIGEST) == BLOB
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB
    assert len(quay.asked) == 1


async def test_clients_share_one_open_file_and_none_is_left_open(
    registry: Registry, quay: Server
) -> None:
    """Whether they read to the end, leave in between, or come when it is over."""
    before = len(open_blobs())  # a server that a test broke off may have left some
    gate = asyncio.Event()
    quay.on(BLOB_PATH, halting(gate, BLOB, 5000))
    found = [arriving(await registry.blob(NAME, BLOB_DIGEST)) for _ in range(20)]
    pieces = [one.chunks(0, one.size) for one in found]
    assert all([await anext(one) for one in pieces])
    # The one that writes, and the one that all read from.
    assert len(open_blobs()) == before + 2
    for one in pieces[:10]:
        await one.aclose()
    gate.set()
    await found[0].complete()
    assert all([await anext(one) for one in pieces[10:]])
    for one in pieces[10:]:
        await one.aclose()
    assert await read(found[0]) == BLOB
    assert len(open_blobs()) == before


async def test_clients_that_come_while_a_blob_moves_to_its_place(
    registry: Registry, quay: Server
) -> None:
    """At whatever moment of its last steps they come, they get the blob, and upstream one GET."""

    async def come(moment: int) -> bytes:
        await asyncio.sleep(moment / 5000)
        return bytes(await read(await registry.blob(NAME, BLOB_DIGEST)))

    assert set(await asyncio.gather(*map(come, range(100)))) == {BLOB}
    assert len(quay.asked) == 1


async def test_a_size_is_told_without_a_fetch(registry: Registry, quay: Server) -> None:
    """HEAD of what is not here is answered by upstream's HEAD."""
    assert await registry.blob_size(NAME, BLOB_DIGEST) == len(BLOB)
    assert [asked.method for asked in quay.asked] == ["HEAD"]
    with pytest.raises(BlobUnknown):
        await registry.promised_size(NAME, BLOB_DIGEST)
    pulled = arriving(await registry.blob(NAME, BLOB_DIGEST))
    await pulled.complete()
    assert await registry.promised_size(NAME, BLOB_DIGEST) == len(BLOB)


async def test_a_size_while_a_transfer_begins(registry: Registry, quay: Server) -> None:
    """Before upstream answered the transfer, it is asked; afterwards the size is known."""
    gate = asyncio.Event()
    quay.on(BLOB_PATH, by_method(GET=gated(gate, blob()), HEAD=blob()))
    waiting = asyncio.create_task(registry.blob(NAME, BLOB_DIGEST))
    await eventually(lambda: quay.asked)
    assert await registry.blob_size(NAME, BLOB_DIGEST) == len(BLOB)
    gate.set()
    pulled = arriving(await waiting)
    await pulled.complete()
    assert [asked.method for asked in quay.asked] == ["GET", "HEAD"]


async def test_closing_stops_transfers_and_tells_who_waits(
    store: FilesystemStore, quay: Server, connect: Callable[..., UpstreamClient], tmp_path: Path
) -> None:
    """Nothing is left half-written."""
    gate = asyncio.Event()
    quay.on(BLOB_PATH, halting(gate, BLOB, 1000))
    registry = PullingRegistry(store, connect())
    found = await registry.blob(NAME, BLOB_DIGEST)
    waiting = asyncio.create_task(read(found))
    await asyncio.sleep(0.05)
    await registry.close()
    with pytest.raises(UpstreamFailed, match="its transfer was stopped"):
        await waiting
    assert list((tmp_path / "tmp").iterdir()) == []
    assert registry.counters.downloads == 0
    gate.set()


async def test_a_failure_that_nobody_waits_for_is_no_noise(
    registry: Registry, quay: Server
) -> None:
    """Clients that left are not missed."""
    noise = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    gate = asyncio.Event()
    for path in (V1_PATH, BLOB_PATH):
        quay.on(path, gated(gate, reply(429)))
    tasks = [
        asyncio.create_task(registry.manifest(NAME, V1)),
        asyncio.create_task(registry.blob(NAME, BLOB_DIGEST)),
        asyncio.create_task(registry.blob_size(NAME, BLOB_DIGEST)),
    ]
    await eventually(lambda: len(quay.asked) == 3)
    for task in tasks:
        task.cancel()
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    with pytest.raises(UpstreamBusy):
        await registry.manifest(NAME, V1)
    gc.collect()
    assert noise == []
