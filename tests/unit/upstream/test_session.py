# SPDX-License-Identifier: Apache-2.0
"""Logging in at other registries, and trying again where that helps."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from itertools import groupby
from ssl import SSLContext
from typing import Any

import pytest
from buildset_registry.errors import ManifestHidden, RegistryError, UpstreamBusy, UpstreamFailed
from buildset_registry.oci.digest import Digest

from tests.unit.upstream.lab import (
    BLOB,
    BLOB_DIGEST,
    BLOB_PATH,
    MANIFEST,
    NAME,
    V1,
    V1_PATH,
    Answer,
    Connect,
    Server,
    blob,
    by_method,
    guarded,
    hanging_up,
    manifest,
    redirect,
    reply,
    serving,
    streamed,
)

DIGEST = Digest.of(MANIFEST)
BASIC = "Basic " + base64.b64encode(b"ci:secret").decode()
LOGIN: dict[str, Any] = {"username": "ci", "password": "secret"}


def token(value: str = "good", **more: object) -> Answer:
    return reply(200, json.dumps({"token": value, **more}).encode())


def bearer(server: Server, path: str = "/token", service: str = "quay") -> str:
    return f'Bearer realm="{server.url}{path}",service="{service}"'


@pytest.fixture
async def tokens(tls: SSLContext) -> AsyncIterator[Server]:
    """A token server on a host of its own."""
    async with serving(tls, "127.0.0.3") as server:
        server.on("/token", token())
        yield server


async def test_a_token_is_fetched_once_and_used_again(
    quay: Server, tokens: Server, connect: Connect
) -> None:
    """Anonymously, for the repository, for whatever is asked of it."""
    for path, answer in ((V1_PATH, manifest()), (BLOB_PATH, blob())):
        quay.on(path, guarded(answer, "Bearer good", challenge=bearer(tokens)))
    client = connect()
    assert (await client.manifest(NAME, V1)).raw == MANIFEST
    assert await client.blob_size(NAME, BLOB_DIGEST) == len(BLOB)
    (asked,) = tokens.asked
    assert asked.query == "service=quay&scope=repository:org/app:pull"
    assert asked.authorization is None
    assert [one.authorization for one in quay.asked] == [None, "Bearer good", "Bearer good"]


async def test_credentials_go_to_the_token_server(
    quay: Server, tokens: Server, connect: Connect
) -> None:
    """And nowhere else."""
    quay.on(V1_PATH, guarded(manifest(), "Bearer good", challenge=bearer(tokens)))
    await connect(**LOGIN).manifest(NAME, V1)
    assert [one.authorization for one in tokens.asked] == [BASIC]
    assert [one.authorization for one in quay.asked] == [None, "Bearer good"]


async def test_many_requests_share_one_login(
    quay: Server, tokens: Server, connect: Connect
) -> None:
    """Fifty requests at once fetch one token."""
    quay.on(BLOB_PATH, guarded(blob(), "Bearer good", challenge=bearer(tokens)))
    client = connect()
    sizes = await asyncio.gather(*(client.blob_size(NAME, BLOB_DIGEST) for _ in range(50)))
    assert set(sizes) == {len(BLOB)}
    assert len(tokens.asked) == 1


async def test_a_token_that_is_refused_is_replaced(
    quay: Server, tokens: Server, connect: Connect
) -> None:
    """A registry may forget its tokens before they run out."""
    quay.on(V1_PATH, guarded(manifest(), "Bearer good", challenge=bearer(tokens)))
    client = connect()
    await client.manifest(NAME, V1)
    quay.on(V1_PATH, guarded(manifest(), "Bearer new", challenge=bearer(tokens)))
    tokens.on("/token", token("new"))
    await client.manifest(NAME, V1)
    assert len(tokens.asked) == 2


@pytest.mark.parametrize(
    "more", [{"expires_in": 0}, {"expires_in": 300, "issued_at": "2020-01-01T00:00:00Z"}]
)
async def test_a_token_that_is_out_of_date_by_the_clock_here_is_tried(
    quay: Server, tokens: Server, connect: Connect, more: dict[str, Any]
) -> None:
    """The clock may be wrong, here or there. It is asked for each time."""
    tokens.on("/token", token(**more))
    quay.on(V1_PATH, guarded(manifest(), "Bearer good", challenge=bearer(tokens)))
    client = connect()
    for times in (1, 2):
        assert (await client.manifest(NAME, V1)).raw == MANIFEST
        assert len(tokens.asked) == times


async def test_a_registry_that_asks_for_basic_credentials_gets_them(
    quay: Server, connect: Connect
) -> None:
    """Where a registry asks for it and credentials are configured."""
    quay.on(V1_PATH, guarded(manifest(), BASIC, challenge='Basic realm="quay"'))
    client = connect(**LOGIN)
    for _ in range(2):
        assert (await client.manifest(NAME, V1)).raw == MANIFEST
    assert [one.authorization for one in quay.asked] == [None, BASIC, BASIC]
    with pytest.raises(ManifestHidden, match="denies access to org/app; give it credentials"):
        await connect().manifest(NAME, V1)


async def test_credentials_that_are_refused_are_left_out(
    quay: Server, tokens: Server, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """What everybody gets is tried then, and the log says that they are wrong."""
    tokens.on("/token", reply(401), token())
    quay.on(V1_PATH, guarded(manifest(), "Bearer good", challenge=bearer(tokens)))
    with caplog.at_level(logging.WARNING):
        assert (await connect(**LOGIN).manifest(NAME, V1)).raw == MANIFEST
    assert "upstream quay.io refuses its credentials" in caplog.text
    assert "secret" not in caplog.text
    assert [one.authorization for one in tokens.asked] == [BASIC, None]


async def test_a_registry_that_takes_no_token_is_not_asked_for_ever(
    quay: Server, tokens: Server, connect: Connect
) -> None:
    """It is not asked for ever."""
    quay.on(V1_PATH, guarded(manifest(), "Bearer other", challenge=bearer(tokens)))
    with pytest.raises(ManifestHidden, match="denies access to org/app; check its credentials"):
        await connect(**LOGIN).manifest(NAME, V1)
    assert len(quay.asked) == 2


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (reply(503), UpstreamFailed, r"its token server 127\.0\.0\.3:\d+ answers 503"),
        (hanging_up(), UpstreamFailed, r"its token server 127\.0\.0\.3:\d+: the connection broke"),
        (reply(200, b"hello"), UpstreamFailed, "its token server answers without a token"),
        (reply(429, Retry_After="9"), UpstreamBusy, "limits the rate of requests"),
        (reply(404), ManifestHidden, "denies access"),
    ],
    ids=["busy", "broken", "no token", "rate limit", "refused"],
)
async def test_a_token_server_that_fails_is_named(
    quay: Server,
    tokens: Server,
    connect: Connect,
    answer: Answer,
    error: type[RegistryError],
    message: str,
) -> None:
    """It is named, since it is not the registry that fails."""
    tokens.on("/token", answer)
    quay.on(V1_PATH, guarded(manifest(), "Bearer good", challenge=bearer(tokens)))
    with pytest.raises(error, match=rf"upstream quay\.io .*{message}"):
        await connect().manifest(NAME, V1)


async def test_a_failure_that_passes_is_tried_again(quay: Server, connect: Connect) -> None:
    """A server that is busy for a moment, a connection that breaks."""
    quay.on(V1_PATH, reply(502), hanging_up(), manifest())
    assert (await connect().manifest(NAME, V1)).raw == MANIFEST
    assert len(quay.asked) == 3


async def test_a_server_that_says_when_to_come_again_is_left_alone(
    quay: Server, connect: Connect
) -> None:
    """Whoever asks hears it."""
    quay.on(V1_PATH, reply(503, Retry_After="30"), manifest())
    with pytest.raises(UpstreamFailed) as caught:
        await connect().manifest(NAME, V1)
    assert caught.value.headers == {"Retry-After": "30"}
    assert len(quay.asked) == 1


async def test_storage_gets_no_login(
    quay: Server, storage: Server, tokens: Server, connect: Connect
) -> None:
    """Neither our token nor our credentials, though it asks for them."""
    quay.on(
        BLOB_PATH, guarded(redirect(f"{storage.url}/b"), "Bearer good", challenge=bearer(tokens))
    )
    storage.on("/b", guarded(blob(), "Bearer good", challenge=bearer(tokens)))
    with pytest.raises(UpstreamFailed, match=r"upstream quay\.io .*127\.0\.0\.2:\d+ answers 401"):
        await connect(**LOGIN).blob_size(NAME, BLOB_DIGEST)
    assert {one.authorization for one in storage.asked} == {None}
    assert len(tokens.asked) == 1


async def test_storage_that_answers_get_alone_is_asked_by_get(
    quay: Server, storage: Server, connect: Connect
) -> None:
    """S3 signs an address for one method; a size is read from the head of a GET then."""
    quay.on(BLOB_PATH, redirect(f"{storage.url}/b"))
    storage.on("/b", by_method(HEAD=reply(403), GET=blob()))
    assert await connect().blob_size(NAME, BLOB_DIGEST) == len(BLOB)
    assert [asked.method for asked in storage.asked] == ["HEAD", "GET"]


REFUSALS = {str(status): reply(status) for status in (204, 400, 401, 403, 404, 405, 500, 501)}
ODDITIES = {"breaks": hanging_up(), "no length": streamed(), "length 0": reply(200)}


@pytest.mark.parametrize(
    "answer", [*REFUSALS.values(), *ODDITIES.values()], ids=[*REFUSALS, *ODDITIES]
)
async def test_head_decides_nothing_that_get_would_decide_otherwise(
    quay: Server, connect: Connect, answer: Answer
) -> None:
    """Whatever a registry, or a firewall, does with HEAD; of a blob only the head is read."""
    quay.on(V1_PATH, by_method(HEAD=answer, GET=manifest(Docker_Content_Digest=str(DIGEST))))
    quay.on(BLOB_PATH, by_method(HEAD=answer, GET=blob()))
    found = await connect().head(NAME, V1)
    assert (found.digest, found.size) == (DIGEST, len(MANIFEST))
    assert await connect().blob_size(NAME, BLOB_DIGEST) == len(BLOB)
    # A connection that breaks is made again once before anybody is told.
    methods = [method for method, _same in groupby(asked.method for asked in quay.asked)]
    assert methods == ["HEAD", "GET"] * 2


@pytest.mark.parametrize(
    "answer", [reply(429), reply(503, Retry_After="9")], ids=["rate limit", "busy"]
)
async def test_head_is_enough_where_a_registry_wants_to_be_left_alone(
    quay: Server, connect: Connect, answer: Answer
) -> None:
    """GET costs more."""
    quay.on(V1_PATH, by_method(HEAD=answer, GET=manifest()))
    with pytest.raises((UpstreamBusy, UpstreamFailed)):
        await connect().head(NAME, V1)
    assert [asked.method for asked in quay.asked] == ["HEAD"]


async def test_the_head_of_an_empty_blob_tells_its_size(quay: Server, connect: Connect) -> None:
    """A length of 0 may be right."""
    empty = Digest.of(b"")
    quay.on(f"/v2/org/app/blobs/{empty}", reply(200))
    assert await connect().blob_size(NAME, empty) == 0


async def test_a_registry_that_knows_no_head_is_asked_by_get(
    quay: Server, connect: Connect
) -> None:
    """It is asked by GET."""
    quay.on(V1_PATH, by_method(HEAD=reply(405), GET=manifest(Docker_Content_Digest=str(DIGEST))))
    assert (await connect().head(NAME, V1)).digest == DIGEST
    assert [asked.method for asked in quay.asked] == ["HEAD", "GET"]
