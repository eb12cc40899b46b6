# SPDX-License-Identifier: Apache-2.0
"""Pull-through from a registry over TLS: asked once, nothing unverified, pushes win."""

import asyncio
import gc
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.web_request import BaseRequest
from buildset_registry import download
from buildset_registry.download import BlobStream
from buildset_registry.errors import BlobUnknown, ManifestUnknown, UpstreamBusy, UpstreamFailed
from buildset_registry.oci.descriptor import OCI_INDEX
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.pullthrough import PullThrough
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem import FilesystemStore

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
    breaking,
    by_method,
    eventually,
    gated,
    halting,
    manifest,
    redirect,
    reply,
    streamed,
)

OTHER = RepositoryName("quay.io/org/other")
OTHER_PATH = f"/v2/org/other/blobs/{BLOB_DIGEST}"
MANIFEST_DIGEST = Digest.of(MANIFEST)
PUSHED = b'{"schemaVersion":2,"manifests":[],"annotations":{"by":"job"}}'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FilesystemStore]:
    made = FilesystemStore(tmp_path)
    yield made
    made.close()


@pytest.fixture
async def pull_through(
    store: FilesystemStore,
    quay: Server,
    connect: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Any]:
    monkeypatch.setattr(download, "_PAUSE", 0)
    quay.on(V1_PATH, manifest())
    quay.on(BLOB_PATH, blob())
    made = PullThrough(store, connect())
    yield made
    await made.close()


@pytest.fixture
def registry(store: FilesystemStore, pull_through: PullThrough) -> Registry:
    return Registry(store, pull_through)


async def read(found: Any, start: int = 0, end: int | None = None) -> Any:
    if not hasattr(found, "chunks"):
        return found.path.read_bytes()
    pieces = found.chunks(start, found.size if end is None else end)
    return b"".join([piece async for piece in pieces])


def only(folder: Path, pattern: str) -> Path:
    """Find the one file of that name below a folder."""
    (found,) = folder.rglob(pattern)
    return found


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
    store: FilesystemStore, quay: Server, connect: Callable[..., Any]
) -> None:
    """``app`` and ``library/app`` are one image."""
    quay.on(f"/v2/library/app/blobs/{BLOB_DIGEST}", blob())
    quay.on("/v2/library/app/manifests/v1", manifest())
    pull_through = PullThrough(store, connect(name="docker.io"))
    names = [RepositoryName("app"), RepositoryName("library/app")]
    told = await asyncio.gather(*(pull_through.manifest(name, V1) for name in names))
    assert [one.raw for one in told] == [MANIFEST] * 2
    found = await asyncio.gather(*(pull_through.blob(name, BLOB_DIGEST) for name in names))
    assert [await read(one) for one in found] == [BLOB] * 2
    assert len(quay.asked) == 2
    await pull_through.close()


async def test_the_first_bytes_come_before_the_last_arrive(
    registry: Registry, quay: Server
) -> None:
    """A client reads while upstream still sends; a range waits for its own bytes only."""
    gate = asyncio.Event()
    quay.on(BLOB_PATH, halting(gate, BLOB, 1000))
    found: Any = await registry.blob(NAME, BLOB_DIGEST)
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
    found: Any = await registry.blob(NAME, BLOB_DIGEST)
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
    found: list[Any] = [await registry.blob(NAME, BLOB_DIGEST) for _ in range(20)]
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


async def test_a_blob_that_is_collected_while_upstream_is_asked(
    registry: Registry, store: FilesystemStore, quay: Server
) -> None:
    """It is fetched then."""
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB
    gate = asyncio.Event()
    quay.on(OTHER_PATH, by_method(HEAD=gated(gate, blob()), GET=blob()))
    waiting = asyncio.create_task(registry.blob(OTHER, BLOB_DIGEST))
    await eventually(lambda: len(quay.asked) == 2)
    assert await store.blobs.sweep(BLOB_DIGEST, time.time() + 60, time.time() + 60)
    gate.set()
    assert await read(await waiting) == BLOB


async def test_a_broken_transfer_goes_on_where_it_stopped(registry: Registry, quay: Server) -> None:
    """By a range, several times; the client sees none of it."""
    quay.on(BLOB_PATH, breaking(BLOB, 3000), breaking(BLOB, 7000), blob())
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB
    ranges = [asked.headers.get("Range") for asked in quay.asked]
    assert ranges == [None, "bytes=3000-", "bytes=7000-"]


async def test_a_rate_limit_in_the_middle_is_waited_for(registry: Registry, quay: Server) -> None:
    """It does not spoil what has arrived; that the blob is gone does."""
    quay.on(BLOB_PATH, breaking(BLOB, 3000), reply(429), blob())
    found: Any = await registry.blob(NAME, BLOB_DIGEST)
    assert await read(found) == BLOB
    other = Digest.of(BLOB[1:])
    quay.on(f"/v2/org/app/blobs/{other}", breaking(BLOB[1:], 3000), reply(404))
    with pytest.raises(BlobUnknown):
        await read(await registry.blob(NAME, other))


async def test_a_transfer_of_unknown_length_goes_on_too(registry: Registry, quay: Server) -> None:
    """As long as something has come."""

    async def breaking_stream(request: BaseRequest) -> Any:
        answer = await streamed(BLOB[:3000])(request)
        assert request.transport
        request.transport.abort()
        return answer

    quay.on(BLOB_PATH, breaking_stream, blob())
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB


async def test_a_transfer_that_never_ends_well_is_an_error(
    registry: Registry, quay: Server, store: FilesystemStore, tmp_path: Path
) -> None:
    """The client's transfer breaks, nothing is stored, the next request starts anew."""
    quay.on(BLOB_PATH, breaking(BLOB, 3000), *[breaking(BLOB, 3000)] * 20)
    found: Any = await registry.blob(NAME, BLOB_DIGEST)
    with pytest.raises(UpstreamFailed, match=r"upstream quay\.io .*connection broke"):
        await read(found)
    assert await store.blobs.size(BLOB_DIGEST) is None
    assert list((tmp_path / "tmp").iterdir()) == []
    quay.on(BLOB_PATH, blob())
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB


async def test_wrong_content_never_arrives_whole(
    registry: Registry, quay: Server, store: FilesystemStore, tmp_path: Path
) -> None:
    """The last byte is held back until the digest is verified."""
    quay.on(BLOB_PATH, blob(b"x" * 2**20))
    found: Any = await registry.blob(NAME, BLOB_DIGEST)
    received = []
    with pytest.raises(UpstreamFailed, match=r"upstream quay\.io: .* has another digest"):
        received.extend([piece async for piece in found.chunks(0, found.size)])
    assert len(b"".join(received)) < 2**20
    assert await store.blobs.size(BLOB_DIGEST) is None
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_a_length_that_changes_in_the_middle_is_an_error(
    registry: Registry, quay: Server, store: FilesystemStore
) -> None:
    """A client was promised another one; it must not believe that it has the whole."""
    quay.on(BLOB_PATH, breaking(BLOB, 3000, promised=len(BLOB) + 5), blob())
    found: Any = await registry.blob(NAME, BLOB_DIGEST)
    with pytest.raises(UpstreamFailed, match="it promised 10245 bytes and sent 10240"):
        await read(found)
    assert await store.blobs.size(BLOB_DIGEST) is None


async def test_a_size_that_upstream_does_not_tell(registry: Registry, quay: Server) -> None:
    """Then clients wait for the end."""
    quay.on(BLOB_PATH, streamed(BLOB[:100], BLOB[100:]))
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB


async def test_an_empty_blob_from_upstream(registry: Registry, quay: Server) -> None:
    """There is no last byte to hold back."""
    empty = Digest.of(b"")
    quay.on(f"/v2/org/app/blobs/{empty}", blob(b""))
    assert await read(await registry.blob(NAME, empty)) == b""


async def test_content_that_is_cut_off_under_a_reader_is_an_error(
    registry: Registry, quay: Server, store: FilesystemStore, tmp_path: Path
) -> None:
    """A damaged disk makes no client wait for ever."""
    found: Any = await registry.blob(NAME, BLOB_DIGEST)
    pieces = found.chunks(0, found.size)
    await found.complete()
    data = only(tmp_path, f"{BLOB_DIGEST.hex}/data")
    os.truncate(data, 100)
    with pytest.raises(EOFError, match="a blob ended at 100 of 10240 bytes"):
        [piece async for piece in pieces]


async def test_a_full_disk_is_an_error_of_its_own(
    registry: Registry, store: FilesystemStore, tmp_path: Path
) -> None:
    """Whoever waits hears of the disk, not of upstream."""
    (tmp_path / "tmp").rmdir()
    (tmp_path / "tmp").touch()
    with pytest.raises(Exception, match="storage failed"):
        await registry.blob(NAME, BLOB_DIGEST)


async def test_what_upstream_lacks_is_unknown(registry: Registry, quay: Server) -> None:
    """And asked for again the next time."""
    quay.on(BLOB_PATH, reply(404))
    for _ in range(2):
        with pytest.raises(BlobUnknown, match=r"upstream quay\.io has no blob"):
            await registry.blob(NAME, BLOB_DIGEST)
        with pytest.raises(ManifestUnknown, match=r"upstream quay\.io has no manifest none"):
            await registry.manifest(NAME, Tag("none"))
        with pytest.raises(BlobUnknown):
            await registry.blob_size(NAME, BLOB_DIGEST)
    quay.on(BLOB_PATH, blob())
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB


async def test_a_manifest_that_is_none_is_upstreams_failure(
    registry: Registry, quay: Server
) -> None:
    """It is not stored, and the client is not told that its request was wrong."""
    quay.on(V1_PATH, manifest(b"hello"))
    with pytest.raises(UpstreamFailed, match=r"quay\.io sends a manifest that is not valid"):
        await registry.manifest(NAME, V1)
    quay.on(V1_PATH, manifest(b'{"schemaVersion": 1}', "application/json"))
    with pytest.raises(UpstreamFailed, match="schema 1"):
        await registry.manifest(NAME, V1)


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

    async def body() -> AsyncIterator[Any]:
        yield BLOB

    await upload.append(body())
    await Registry(store).finish_upload(NAME, upload, BLOB_DIGEST)
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB
    assert quay.asked == []


async def test_a_blob_of_another_repository_is_not_fetched_again(
    registry: Registry, quay: Server, pull_through: PullThrough
) -> None:
    """Upstream is asked whether this repository has it, and the stored copy is served."""
    pulled: Any = await registry.blob(NAME, BLOB_DIGEST)
    await pulled.complete()
    with pytest.raises(BlobUnknown):
        await registry.blob(OTHER, BLOB_DIGEST)
    quay.on(OTHER_PATH, blob())
    found = await asyncio.gather(*(registry.blob(OTHER, BLOB_DIGEST) for _ in range(10)))
    assert {await read(one) for one in found} == {BLOB}
    methods = [(asked.method, asked.path) for asked in quay.asked]
    assert methods == [("GET", BLOB_PATH), ("HEAD", OTHER_PATH), ("HEAD", OTHER_PATH)]
    assert pull_through.counters.hits == {"blob": 10}


async def test_a_blob_that_two_repositories_share_is_fetched_once(
    registry: Registry, quay: Server, store: FilesystemStore
) -> None:
    """Also when both are asked at the same time; upstream tells that the second has it, too."""
    gate = asyncio.Event()
    quay.on(BLOB_PATH, halting(gate, BLOB, 1000))
    quay.on(OTHER_PATH, blob())
    names = (NAME, OTHER, OTHER)
    found = [await registry.blob(name, BLOB_DIGEST) for name in names]
    assert await registry.blob_size(OTHER, BLOB_DIGEST) == len(BLOB)
    gate.set()
    assert [await read(one) for one in found] == [BLOB] * 3
    methods = [(asked.method, asked.path) for asked in quay.asked]
    assert methods == [("GET", BLOB_PATH), ("HEAD", OTHER_PATH)]
    for name in names:
        assert await store.cached(name).layers.has(BLOB_DIGEST)


async def test_a_shared_blob_that_the_first_repository_lacks(
    registry: Registry, quay: Server
) -> None:
    """Who asks in the second one is served."""
    gate = asyncio.Event()
    quay.on(BLOB_PATH, gated(gate, reply(404)))
    quay.on(OTHER_PATH, blob())
    lacking = asyncio.create_task(registry.blob(NAME, BLOB_DIGEST))
    await eventually(lambda: quay.asked)
    having = asyncio.create_task(registry.blob(OTHER, BLOB_DIGEST))
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
    second = asyncio.create_task(registry.blob(OTHER, BLOB_DIGEST))
    await eventually(lambda: len(quay.asked) == 2)
    gates[0].set()
    assert isinstance(first, BlobStream)
    await first.complete()
    gates[1].set()
    assert await read(await second) == BLOB
    assert [asked.method for asked in quay.asked].count("GET") == 1


async def test_a_blob_of_another_repository_while_upstream_is_down(
    registry: Registry, quay: Server
) -> None:
    """It is served where an image that came from this repository refers to it, else it is not."""
    child = json.dumps(
        {
            "schemaVersion": 2,
            "config": {"mediaType": "a/b", "digest": str(BLOB_DIGEST), "size": len(BLOB)},
            "layers": [],
        }
    ).encode()
    lost = {"mediaType": OCI_INDEX, "digest": str(Digest.of(b"lost")), "size": 4}
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": str(Digest.of(child)),
        "size": len(child),
    }
    index = json.dumps({"schemaVersion": 2, "manifests": [entry, lost]}).encode()
    quay.on("/v2/org/other/manifests/v1", manifest(index))
    quay.on(f"/v2/org/other/manifests/{Digest.of(child)}", manifest(child, str(entry["mediaType"])))
    pulled: Any = await registry.blob(NAME, BLOB_DIGEST)
    await pulled.complete()
    await registry.manifest(OTHER, V1)
    quay.on(OTHER_PATH, reply(503))
    with pytest.raises(UpstreamFailed):
        await registry.blob(OTHER, BLOB_DIGEST)
    await registry.manifest(OTHER, Digest.of(child))
    assert await registry.blob_size(OTHER, BLOB_DIGEST) == len(BLOB)
    assert await read(await registry.blob(OTHER, BLOB_DIGEST)) == BLOB


async def test_a_size_is_told_without_a_fetch(registry: Registry, quay: Server) -> None:
    """HEAD of what is not here is answered by upstream's HEAD."""
    assert await registry.blob_size(NAME, BLOB_DIGEST) == len(BLOB)
    assert [asked.method for asked in quay.asked] == ["HEAD"]
    with pytest.raises(BlobUnknown):
        await registry.promised_size(NAME, BLOB_DIGEST)
    pulled: Any = await registry.blob(NAME, BLOB_DIGEST)
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
    pulled: Any = await waiting
    await pulled.complete()
    assert [asked.method for asked in quay.asked] == ["GET", "HEAD"]


async def test_a_pushed_image_may_use_upstreams_layers(
    registry: Registry, store: FilesystemStore
) -> None:
    """A layer that the client left out because upstream has it becomes a pushed one."""
    image = json.dumps(
        {
            "schemaVersion": 2,
            "config": {"mediaType": "x/y", "digest": str(BLOB_DIGEST), "size": len(BLOB)},
            "layers": [],
        }
    ).encode()
    await registry.push_manifest(NAME, [Tag("mine")], image)
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


async def test_a_blob_behind_a_redirect(registry: Registry, quay: Server, storage: Server) -> None:
    """Registries send clients on to storage; what is there is verified like anything else."""
    quay.on(BLOB_PATH, redirect(f"{storage.url}/signed?key=1"))
    storage.on("/signed", blob())
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB


@pytest.mark.parametrize("target", ["http://169.254.169.254/x", "https://[fe80::1]/x"])
async def test_a_redirect_to_the_host_itself_is_refused(
    registry: Registry, quay: Server, target: str
) -> None:
    """A registry cannot make this one read what clouds tell their machines."""
    quay.on(BLOB_PATH, redirect(target))
    quay.on(V1_PATH, redirect(target))
    with pytest.raises(UpstreamFailed, match=r"quay\.io .* this is refused"):
        await registry.blob(NAME, BLOB_DIGEST)
    with pytest.raises(UpstreamFailed, match=r"quay\.io .* this is refused"):
        await registry.manifest(NAME, V1)


async def test_closing_stops_transfers_and_tells_who_waits(
    store: FilesystemStore, quay: Server, connect: Callable[..., Any], tmp_path: Path
) -> None:
    """Nothing is left half-written."""
    gate = asyncio.Event()
    quay.on(BLOB_PATH, halting(gate, BLOB, 1000))
    pull_through = PullThrough(store, connect())
    found = await pull_through.blob(NAME, BLOB_DIGEST)
    waiting = asyncio.create_task(read(found))
    await asyncio.sleep(0.05)
    await pull_through.close()
    with pytest.raises(UpstreamFailed, match="its transfer was stopped"):
        await waiting
    assert list((tmp_path / "tmp").iterdir()) == []
    assert pull_through.counters.downloads == 0
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
