# SPDX-License-Identifier: Apache-2.0
"""What upstream may send and how it may fail: nothing unverified, nothing half-stored."""

import os
from pathlib import Path

import pytest
from aiohttp.web import BaseRequest, StreamResponse
from buildset_registry.errors import BlobUnknown, ManifestUnknown, UpstreamFailed
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Tag
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem.store import FilesystemStore

from tests.unit.pullthrough.reading import arriving, read
from tests.unit.upstream.lab import (
    BLOB,
    BLOB_DIGEST,
    BLOB_PATH,
    NAME,
    V1,
    V1_PATH,
    Server,
    blob,
    breaking,
    manifest,
    redirect,
    reply,
    streamed,
)


def only(folder: Path, pattern: str) -> Path:
    """Find the one file of that name below a folder."""
    (found,) = folder.rglob(pattern)
    return found


async def test_a_broken_transfer_goes_on_where_it_stopped(registry: Registry, quay: Server) -> None:
    """By a range, several times; the client sees none of it."""
    quay.on(BLOB_PATH, breaking(BLOB, 3000), breaking(BLOB, 7000), blob())
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB
    ranges = [asked.headers.get("Range") for asked in quay.asked]
    assert ranges == [None, "bytes=3000-", "bytes=7000-"]


async def test_a_rate_limit_in_the_middle_is_waited_for(registry: Registry, quay: Server) -> None:
    """It does not spoil what has arrived; that the blob is gone does."""
    quay.on(BLOB_PATH, breaking(BLOB, 3000), reply(429), blob())
    found = arriving(await registry.blob(NAME, BLOB_DIGEST))
    assert await read(found) == BLOB
    other = Digest.of(BLOB[1:])
    quay.on(f"/v2/org/app/blobs/{other}", breaking(BLOB[1:], 3000), reply(404))
    with pytest.raises(BlobUnknown):
        await read(await registry.blob(NAME, other))


async def test_a_transfer_of_unknown_length_goes_on_too(registry: Registry, quay: Server) -> None:
    """As long as something has come."""

    async def breaking_stream(request: BaseRequest) -> StreamResponse:
        answer: StreamResponse = await streamed(BLOB[:3000])(request)
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
    found = arriving(await registry.blob(NAME, BLOB_DIGEST))
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
    found = arriving(await registry.blob(NAME, BLOB_DIGEST))
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
    found = arriving(await registry.blob(NAME, BLOB_DIGEST))
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
    found = arriving(await registry.blob(NAME, BLOB_DIGEST))
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
    quay.on(V1_PATH, manifest(b"{hello}"))
    with pytest.raises(UpstreamFailed, match=r"quay\.io sends a manifest that is not valid"):
        await registry.manifest(NAME, V1)
    quay.on(V1_PATH, manifest(b'{"schemaVersion": 1}', "application/json"))
    with pytest.raises(UpstreamFailed, match="schema 1"):
        await registry.manifest(NAME, V1)


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
