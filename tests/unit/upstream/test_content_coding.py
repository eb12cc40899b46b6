# SPDX-License-Identifier: Apache-2.0
"""Documents that come compressed though nobody asked for that."""

import gzip
import zlib

import pytest
from buildset_registry.errors import UpstreamFailed
from buildset_registry.oci.digest import Digest
from buildset_registry.protocol.content_coding import content_coding, decoded
from buildset_registry.protocol.errors import UpstreamError

from tests.unit.upstream.lab import MANIFEST, NAME, V1, V1_PATH, Connect, Server, manifest


@pytest.mark.parametrize(
    ("raw", "coding"),
    [
        (MANIFEST, ""),
        (gzip.compress(MANIFEST, mtime=0), "gzip"),
        (gzip.compress(MANIFEST, mtime=0), "x-gzip"),
        (zlib.compress(MANIFEST), "deflate"),
        (MANIFEST, "gzip"),
        (b"\n" + MANIFEST, "br"),
    ],
)
def test_a_document_is_unpacked(raw: bytes, coding: str) -> None:
    """Unless only its header says that it is packed."""
    assert decoded(raw, coding, 1000).strip() == MANIFEST


@pytest.mark.parametrize(
    ("raw", "coding", "reason"),
    [
        (b"\x0b\x02\x80", "br", "encoded as 'br', which was not asked for"),
        (b"\x1f\x8b not gzip", "gzip", "encoded as 'gzip' that cannot be decoded"),
        (gzip.compress(MANIFEST, mtime=0)[:-9], "gzip", "encoded as 'gzip' that cannot be decoded"),
        (gzip.compress(b"0" * 1_000_000, mtime=0), "gzip", "sends more than 100 KiB"),
    ],
    ids=["another", "damaged", "cut off", "a bomb"],
)
def test_what_cannot_be_unpacked_is_told(raw: bytes, coding: str, reason: str) -> None:
    """A small document that unpacks to a large one is not unpacked to its end."""
    with pytest.raises(UpstreamError, match=reason):
        decoded(raw, coding, 100 * 1024)


@pytest.mark.parametrize("text", ["", "identity", " Identity "])
def test_identity_is_no_coding(text: str) -> None:
    """It is what was asked for."""
    assert content_coding({"Content-Encoding": text}) == ""


async def test_a_manifest_that_comes_packed_is_served_as_it_was(
    quay: Server, connect: Connect
) -> None:
    """Its digest is that of its bytes before; so is its size, which HEAD does not know then."""
    digest = Digest.of(MANIFEST)
    packed = gzip.compress(MANIFEST, mtime=0)
    headers = {"Content_Encoding": "gzip", "Docker_Content_Digest": str(digest)}
    quay.on(V1_PATH, manifest(packed, **headers))
    client = connect()
    assert (await client.manifest(NAME, V1)).raw == MANIFEST
    assert (await client.head(NAME, V1)).size == len(MANIFEST)
    quay.on(V1_PATH, manifest(b"\x1f\x8b", **headers))
    with pytest.raises(UpstreamFailed, match="encoded as 'gzip' that cannot be decoded"):
        await client.manifest(NAME, V1)
