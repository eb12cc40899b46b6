# SPDX-License-Identifier: Apache-2.0
"""Pull-through: upstream is asked once, and nothing unverified becomes visible."""

import asyncio
import contextlib
import json
from dataclasses import dataclass, field

import pytest
from buildset_registry import download
from buildset_registry.errors import BlobUnknown, ManifestUnknown, UpstreamFailed
from buildset_registry.oci.descriptor import OCI_INDEX
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.pullthrough import PullThrough
from buildset_registry.registry import Registry
from buildset_registry.store.memory import MemoryStore

NAME = RepositoryName("quay.io/org/app")
CONTENT = b"0123456789" * 100
DIGEST = Digest.of(CONTENT)
RAW = json.dumps({"schemaVersion": 2, "manifests": []}).encode()


@dataclass
class Remote:
    """What an upstream sends."""

    size: int | None
    chunks: object


@dataclass
class Upstream:
    """An upstream registry as the client shows it; it counts what it is asked for."""

    manifests: dict = field(default_factory=dict)
    blobs: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    gate: asyncio.Event | None = None
    breaks_at: list = field(default_factory=list)
    tells_size: bool = True

    def serves(self, name):
        return name.host == "quay.io"

    async def manifest(self, name, reference):
        self.asked.append(str(reference))
        await self._wait()
        if reference not in self.manifests:
            raise ManifestUnknown
        raw = self.manifests[reference]
        return type("M", (), {"raw": raw, "media_type": OCI_INDEX, "digest": Digest.of(raw)})

    async def blob_size(self, name, digest):
        self.asked.append(f"HEAD {digest}")
        if digest not in self.blobs:
            raise BlobUnknown
        return len(self.blobs[digest])

    @contextlib.asynccontextmanager
    async def blob(self, name, digest, offset=0):
        self.asked.append(offset)
        if digest not in self.blobs:
            raise BlobUnknown
        content = self.blobs[digest]
        yield Remote(len(content) if self.tells_size else None, self._chunks(content, offset))

    async def _chunks(self, content, offset):
        stop = self.breaks_at.pop(0) if self.breaks_at else None
        for at in range(offset, len(content), 10):
            if stop is not None and at >= stop:
                raise UpstreamFailed("connection lost")
            if at >= len(content) // 2:
                await self._wait()
            yield content[at : at + 10]

    async def _wait(self):
        if self.gate is not None:
            await self.gate.wait()

    async def close(self):
        pass


@pytest.fixture
def upstream(monkeypatch):
    monkeypatch.setattr(download, "_PAUSE", 0)
    return Upstream({Tag("v1"): RAW, Digest.of(RAW): RAW}, {DIGEST: CONTENT})


@pytest.fixture
async def store():
    with contextlib.closing(MemoryStore()) as made:
        yield made


@pytest.fixture
async def registry(store, upstream):
    pull_through = PullThrough(store, upstream)
    yield Registry(store, pull_through)
    await pull_through.close()


async def read(blob, start=0, end=None):
    if not hasattr(blob, "chunks"):
        return blob.path.read_bytes()
    return b"".join([piece async for piece in blob.chunks(start, end or blob.size)])


async def test_fifty_clients_make_one_request(registry, upstream):
    """However many wait for a manifest or a blob, upstream is asked once."""
    upstream.gate = asyncio.Event()
    manifests = [asyncio.create_task(registry.manifest(NAME, Tag("v1"))) for _ in range(50)]
    blobs = [asyncio.create_task(registry.blob(NAME, DIGEST)) for _ in range(50)]
    await asyncio.sleep(0.01)
    upstream.gate.set()
    assert {(await task).raw for task in manifests} == {RAW}
    assert {await read(await task) for task in blobs} == {CONTENT}
    assert upstream.asked == ["v1", 0]


async def test_the_first_bytes_come_before_the_last_arrive(registry, upstream):
    """A client reads while upstream still sends; a range waits for its own bytes only."""
    upstream.gate = asyncio.Event()
    blob = await registry.blob(NAME, DIGEST)
    assert blob.size == len(CONTENT)
    assert await read(blob, 10, 20) == CONTENT[10:20]
    rest = asyncio.create_task(read(blob))
    await asyncio.sleep(0.01)
    assert not rest.done()
    upstream.gate.set()
    assert await rest == CONTENT


async def test_a_client_that_leaves_spoils_nothing(registry, upstream, store):
    """The transfer goes on and the blob is stored."""
    upstream.gate = asyncio.Event()
    blob = await registry.blob(NAME, DIGEST)
    leaving = asyncio.create_task(read(blob))
    await asyncio.sleep(0.01)
    leaving.cancel()
    upstream.gate.set()
    await blob.complete()
    assert await store.blobs.read(DIGEST) == CONTENT
    assert await read(await registry.blob(NAME, DIGEST)) == CONTENT
    assert upstream.asked == [0]


async def test_a_broken_transfer_goes_on_where_it_stopped(registry, upstream):
    """By a range, several times; the client sees none of it."""
    upstream.breaks_at = [300, 700]
    blob = await registry.blob(NAME, DIGEST)
    assert await read(blob) == CONTENT
    assert upstream.asked == [0, 300, 700]


async def test_a_transfer_that_never_ends_well_is_an_error(registry, upstream, store):
    """The client's transfer breaks, nothing is stored, the next request starts anew."""
    upstream.breaks_at = [100] * 5
    blob = await registry.blob(NAME, DIGEST)
    with pytest.raises(UpstreamFailed, match="connection lost"):
        await read(blob)
    assert await store.blobs.size(DIGEST) is None
    assert await read(await registry.blob(NAME, DIGEST)) == CONTENT


async def test_wrong_content_never_arrives_whole(registry, upstream, store):
    """The last byte is held back until the digest is verified."""
    upstream.blobs[DIGEST] = b"x" * len(CONTENT)
    blob = await registry.blob(NAME, DIGEST)
    received = []
    with pytest.raises(UpstreamFailed, match="upstream's content is"):
        received.extend([piece async for piece in blob.chunks(0, blob.size)])
    assert len(b"".join(received)) < len(CONTENT)
    assert await store.blobs.size(DIGEST) is None


async def test_a_size_that_upstream_does_not_tell(registry, upstream):
    """Then clients wait for the end."""
    upstream.tells_size = False
    assert await read(await registry.blob(NAME, DIGEST)) == CONTENT


async def test_an_empty_blob_from_upstream(registry, upstream):
    """There is no last byte to hold back."""
    empty = Digest.of(b"")
    upstream.blobs[empty] = b""
    assert await read(await registry.blob(NAME, empty)) == b""


async def test_what_was_fetched_is_served_without_upstream(registry, upstream):
    """A tag stays what it was at first, by tag and by digest."""
    await registry.manifest(NAME, Tag("v1"))
    upstream.manifests.clear()
    assert (await registry.manifest(NAME, Tag("v1"))).raw == RAW
    assert (await registry.manifest(NAME, Digest.of(RAW))).raw == RAW
    assert upstream.asked == ["v1"]
    assert (await registry.tags(NAME, None, None)).items == ["v1"]


async def test_what_upstream_lacks_is_unknown(registry, upstream):
    """And asked for again the next time."""
    upstream.blobs.clear()
    for _ in range(2):
        with pytest.raises(BlobUnknown):
            await registry.blob(NAME, DIGEST)
        with pytest.raises(ManifestUnknown):
            await registry.manifest(NAME, Tag("none"))
        with pytest.raises(BlobUnknown):
            await registry.blob_size(NAME, DIGEST)


async def test_a_push_while_upstream_is_asked_wins(registry, upstream, store):
    """The request that waited gets the pushed image, and so does every later one."""
    pushed = b'{"schemaVersion":2,"manifests":[],"annotations":{"by":"job"}}'
    upstream.gate = asyncio.Event()
    waiting = asyncio.create_task(registry.manifest(NAME, Tag("v1")))
    await asyncio.sleep(0.01)
    await Registry(store).push_manifest(NAME, [Tag("v1")], pushed, OCI_INDEX)
    upstream.gate.set()
    assert (await waiting).raw == pushed
    assert (await registry.manifest(NAME, Tag("v1"))).raw == pushed


async def test_deleting_the_pushed_tag_uncovers_upstreams(registry, store):
    """Upstream's image of that tag is seen again."""
    pushed = b'{"schemaVersion":2,"manifests":[],"annotations":{"by":"job"}}'
    assert (await registry.manifest(NAME, Tag("v1"))).raw == RAW
    await Registry(store).push_manifest(NAME, [Tag("v1")], pushed, OCI_INDEX)
    assert (await registry.manifest(NAME, Tag("v1"))).raw == pushed
    await Registry(store).delete_tag(NAME, Tag("v1"))
    assert (await registry.manifest(NAME, Tag("v1"))).raw == RAW


async def test_a_blob_of_another_repository_is_not_fetched_again(registry, upstream):
    """Upstream is asked whether this repository has it, and the stored copy is served."""
    await (await registry.blob(NAME, DIGEST)).complete()
    other = RepositoryName("quay.io/org/other")
    assert await read(await registry.blob(other, DIGEST)) == CONTENT
    assert upstream.asked == [0, f"HEAD {DIGEST}"]


async def test_a_size_is_told_without_a_fetch(registry, upstream):
    """HEAD of what is not here is answered by upstream's HEAD."""
    assert await registry.blob_size(NAME, DIGEST) == len(CONTENT)
    with pytest.raises(BlobUnknown):
        await registry.blob_size(NAME, DIGEST, ask_upstream=False)
    await (await registry.blob(NAME, DIGEST)).complete()
    assert await registry.blob_size(NAME, DIGEST, ask_upstream=False) == len(CONTENT)


async def test_a_pushed_image_may_use_upstreams_layers(registry, upstream, store):
    """A layer that the client left out because upstream has it becomes a pushed one."""
    image = json.dumps(
        {
            "schemaVersion": 2,
            "config": {"mediaType": "x/y", "digest": str(DIGEST), "size": len(CONTENT)},
            "layers": [],
        }
    ).encode()
    await registry.push_manifest(NAME, [Tag("mine")], image)
    assert await store.pushed(NAME).layers.has(DIGEST)
    assert await store.blobs.size(DIGEST) == len(CONTENT)


async def test_other_repositories_never_reach_upstream(registry, upstream):
    """Only configured registries are asked."""
    other = RepositoryName("example.com/app")
    with pytest.raises(ManifestUnknown):
        await registry.manifest(other, Tag("v1"))
    with pytest.raises(BlobUnknown):
        await registry.blob(other, DIGEST)
    assert upstream.asked == []
