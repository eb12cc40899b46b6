# SPDX-License-Identifier: Apache-2.0
"""What the client of other registries asks, and what it makes of the answers."""

import asyncio

import pytest
from buildset_registry.errors import (
    BlobUnknown,
    ManifestHidden,
    ManifestUnknown,
    UpstreamBusy,
    UpstreamFailed,
)
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.upstream.client import UpstreamClient

from tests.unit.upstream.lab import (
    BLOB,
    BLOB_DIGEST,
    BLOB_PATH,
    INDEX_TYPE,
    MANIFEST,
    NAME,
    V1,
    V1_PATH,
    Connect,
    Server,
    blob,
    breaking,
    by_method,
    manifest,
    reply,
    serving,
    streamed,
)

DIGEST = Digest.of(MANIFEST)
DIGEST_PATH = f"/v2/org/app/manifests/{DIGEST}"
MIRRORED = "/proxy/v2/org/app/manifests/v1"


async def fetched(client: UpstreamClient, offset: int = 0) -> tuple[int | None, bytes]:
    async with client.blob(NAME, BLOB_DIGEST, offset) as remote:
        return remote.size, b"".join([piece async for piece in remote.chunks])


async def test_a_manifest_and_its_digest(quay: Server, connect: Connect) -> None:
    """By tag and by digest; every type of image is accepted, nothing else of us is told."""
    quay.on(V1_PATH, manifest(media_type=f"{INDEX_TYPE}; charset=utf-8"))
    quay.on(DIGEST_PATH, manifest())
    client = connect()
    for reference in (V1, DIGEST):
        found = await client.manifest(NAME, reference)
        assert (found.raw, found.media_type, found.digest) == (MANIFEST, INDEX_TYPE, DIGEST)
    asked = quay.asked[0]
    assert INDEX_TYPE in asked.headers["Accept"]
    assert asked.headers["Accept"].endswith("*/*")
    assert asked.headers["Accept-Encoding"] == "identity"
    assert asked.headers["User-Agent"].startswith("buildset-registry/")
    assert set(asked.headers) <= {"Host", "Accept", "Accept-Encoding", "User-Agent"}


async def test_a_digest_of_another_algorithm_is_verified(quay: Server, connect: Connect) -> None:
    """What was asked for, or is told, decides how a manifest is verified and named."""
    other = Digest.of(MANIFEST, "sha512")
    quay.on(V1_PATH, manifest(Docker_Content_Digest=str(other)))
    quay.on(f"/v2/org/app/manifests/{other}", manifest(Docker_Content_Digest="md5:0"))
    for reference in (V1, other):
        assert (await connect().manifest(NAME, reference)).digest == other


@pytest.mark.parametrize("stated", [None, str(Digest.of(b"other"))])
async def test_a_manifest_with_another_digest_is_refused(
    quay: Server, connect: Connect, stated: str | None
) -> None:
    """Whether upstream says so itself, or sends what was not asked for."""
    headers = {"Docker_Content_Digest": stated} if stated else {}
    quay.on(DIGEST_PATH, manifest(b'{"other": 1}', **headers))
    quay.on(V1_PATH, manifest(Docker_Content_Digest=str(Digest.of(b"other"))))
    for reference in (DIGEST, V1):
        with pytest.raises(UpstreamFailed, match="sends a manifest whose digest is"):
            await connect().manifest(NAME, reference)


@pytest.mark.parametrize("body", [b"", b"under maintenance", b"[]"], ids=["none", "text", "list"])
async def test_what_is_no_manifest_is_none_of_a_tag(
    quay: Server, connect: Connect, body: bytes
) -> None:
    """A proxy's word for a moment would be the tag's image from then on. A digest decides."""
    quay.on(V1_PATH, manifest(body, "text/plain"))
    with pytest.raises(UpstreamFailed, match="answers with something else than a manifest"):
        await connect().manifest(NAME, V1)
    quay.on(f"/v2/org/app/manifests/{Digest.of(body)}", manifest(body, "text/plain"))
    assert (await connect().manifest(NAME, Digest.of(body))).raw == body


async def test_a_manifest_that_is_too_large_is_not_read(quay: Server, connect: Connect) -> None:
    """4 MiB are the most."""
    quay.on(V1_PATH, manifest(b"x" * (4 * 1024 * 1024 + 1)))
    with pytest.raises(UpstreamFailed, match="sends more than 4096 KiB"):
        await connect().manifest(NAME, V1)


async def test_head_tells_what_a_tag_is_now(quay: Server, connect: Connect) -> None:
    """Without a fetch where upstream tells the digest and the size."""
    quay.on(V1_PATH, manifest(Docker_Content_Digest=str(DIGEST)))
    found = await connect().head(NAME, V1)
    assert (found.media_type, found.digest, found.size) == (INDEX_TYPE, DIGEST, len(MANIFEST))
    assert [asked.method for asked in quay.asked] == ["HEAD"]


async def test_head_fetches_where_a_registry_tells_no_digest(
    quay: Server, connect: Connect
) -> None:
    """Then the manifest is fetched."""
    quay.on(V1_PATH, manifest())
    assert (await connect().head(NAME, V1)).digest == DIGEST
    assert [asked.method for asked in quay.asked] == ["HEAD", "GET"]


async def test_head_refuses_another_digest_than_the_one_asked_for(
    quay: Server, connect: Connect
) -> None:
    """It is refused as in a fetch."""
    quay.on(DIGEST_PATH, manifest(Docker_Content_Digest=str(Digest.of(b"other"))))
    with pytest.raises(UpstreamFailed, match=r"when sha256:.* was asked for"):
        await connect().head(NAME, DIGEST)


async def test_a_blob_is_fetched_from_an_offset_on(quay: Server, connect: Connect) -> None:
    """By Range; the whole size is told each time, also where nothing is left."""
    quay.on(BLOB_PATH, blob())
    client = connect()
    for offset in (0, 1, len(BLOB) - 1, len(BLOB)):
        assert await fetched(client, offset) == (len(BLOB), BLOB[offset:])


async def test_a_registry_that_ignores_range_costs_a_whole_transfer(
    quay: Server, connect: Connect
) -> None:
    """What came before is left out."""
    large = BLOB * 300
    quay.on(BLOB_PATH, reply(200, large))
    for offset in (5000, 2_500_000):
        assert await fetched(connect(), offset) == (len(large), large[offset:])


async def test_a_registry_that_answers_another_range_is_refused(
    quay: Server, connect: Connect
) -> None:
    """Nothing is put where it does not belong."""
    quay.on(BLOB_PATH, reply(206, BLOB, Content_Range="bytes 7-9/10"))
    with pytest.raises(UpstreamFailed, match="answers 206 to a request for the bytes from 5 on"):
        await fetched(connect(), 5)


async def test_a_blob_whose_size_is_not_told_can_be_fetched(quay: Server, connect: Connect) -> None:
    """Its bytes come all the same; a question for the size alone fails."""
    quay.on(BLOB_PATH, by_method(GET=streamed(BLOB), HEAD=streamed()))
    assert await fetched(connect()) == (None, BLOB)
    with pytest.raises(UpstreamFailed, match="does not say how large"):
        await connect().blob_size(NAME, BLOB_DIGEST)


async def test_a_size_is_known_without_a_fetch(quay: Server, connect: Connect) -> None:
    """By HEAD."""
    quay.on(BLOB_PATH, blob())
    assert await connect().blob_size(NAME, BLOB_DIGEST) == len(BLOB)
    assert [asked.method for asked in quay.asked] == ["HEAD"]


async def test_a_transfer_that_breaks_names_upstream(quay: Server, connect: Connect) -> None:
    """It is for the caller to go on."""
    quay.on(BLOB_PATH, breaking(BLOB, 5000))
    with pytest.raises(UpstreamFailed, match=r"upstream quay\.io .*the connection broke"):
        await fetched(connect())


@pytest.mark.parametrize(
    ("status", "of_manifest", "of_blob", "message"),
    [
        (404, ManifestUnknown, BlobUnknown, "has no"),
        (401, ManifestHidden, BlobUnknown, "denies access to org/app; give it credentials"),
        (403, ManifestHidden, BlobUnknown, "denies access to org/app; give it credentials"),
        (429, UpstreamBusy, UpstreamBusy, "limits the rate of requests; give it credentials"),
        (418, UpstreamFailed, UpstreamFailed, "answers 418"),
        (500, UpstreamFailed, UpstreamFailed, "answers 500"),
    ],
)
async def test_each_status_means_a_refusal_that_names_upstream(
    quay: Server,
    connect: Connect,
    status: int,
    of_manifest: type[ManifestUnknown],
    of_blob: type[UpstreamFailed],
    message: str,
) -> None:
    """Each refusal names the upstream and says what can be done."""
    quay.on(V1_PATH, reply(status))
    quay.on(BLOB_PATH, reply(status))
    client = connect()
    with pytest.raises(of_manifest, match=rf"upstream quay\.io .*{message}"):
        await client.manifest(NAME, V1)
    with pytest.raises(of_manifest):
        await client.head(NAME, V1)
    with pytest.raises(of_blob, match=rf"upstream quay\.io .*{message}"):
        await fetched(client)
    with pytest.raises(of_blob):
        await client.blob_size(NAME, BLOB_DIGEST)


async def test_only_what_is_configured_is_asked(quay: Server, connect: Connect) -> None:
    """No name leads elsewhere."""
    client = connect()
    other = RepositoryName("example.com/app")
    assert client.serves(NAME)
    assert not client.serves(other)
    with pytest.raises(ManifestUnknown, match=r"no upstream is configured for example\.com"):
        await client.manifest(other, V1)
    assert quay.asked == []


async def test_a_mirror_is_asked_first(quay: Server, storage: Server, connect: Connect) -> None:
    """The upstream is left alone where the mirror has it, and asked where it has not."""
    storage.on(MIRRORED, manifest(), reply(404), reply(429), reply(503))
    quay.on(V1_PATH, manifest())
    client = connect(mirror=f"{storage.url}/proxy", username="ci", password="secret")
    for home in range(4):
        assert (await client.manifest(NAME, V1)).raw == MANIFEST
        assert len(quay.asked) == home
    assert all(asked.authorization is None for asked in storage.asked)


async def test_a_mirror_that_is_not_there_costs_one_try(quay: Server, connect: Connect) -> None:
    """It costs one try; what fails at last is told of the upstream itself."""
    quay.on(V1_PATH, manifest())
    client = connect(mirror="https://127.0.0.1:1")
    assert (await client.manifest(NAME, V1)).raw == MANIFEST
    quay.on(V1_PATH, reply(404))
    with pytest.raises(ManifestUnknown, match=r"upstream quay\.io has no manifest v1"):
        await client.manifest(NAME, V1)


async def test_many_first_requests_share_one_opening(quay: Server, connect: Connect) -> None:
    """They share one opening of the client."""
    quay.on(V1_PATH, manifest())
    client = connect()
    found = await asyncio.gather(*(client.manifest(NAME, V1) for _ in range(10)))
    assert {one.raw for one in found} == {MANIFEST}


async def test_a_client_that_was_never_used_can_be_closed(connect: Connect) -> None:
    """There is nothing to close."""
    await connect().close()


async def test_plain_http_is_spoken_where_it_is_said(connect: Connect) -> None:
    """An upstream without TLS has an ``http://`` URL."""
    async with serving() as plain:
        plain.on(V1_PATH, manifest())
        client = connect(url=plain.url, ca=None)
        assert (await client.manifest(NAME, V1)).raw == MANIFEST
        await client.close()


async def test_docker_hub_is_asked_for_official_images_below_library(
    quay: Server, connect: Connect
) -> None:
    """Its official images are below ``library`` there."""
    quay.on("/v2/library/app/manifests/v1", manifest())
    client = connect(name="docker.io")
    assert (await client.manifest(RepositoryName("app"), Tag("v1"))).raw == MANIFEST
