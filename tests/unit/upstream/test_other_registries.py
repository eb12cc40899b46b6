# SPDX-License-Identifier: Apache-2.0
"""An upstream that redirects to another registry, which wants a token: lscr.io to ghcr.io."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest
from buildset_registry.errors import ManifestHidden
from buildset_registry.oci.descriptor import OCI_MANIFEST
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.hosts import RegistryHost
from buildset_registry.oci.names import RepositoryName
from buildset_registry.upstream.client import UpstreamClient
from buildset_registry.upstream.hosts import Upstream, Upstreams

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
    guarded,
    manifest,
    redirect,
    reply,
    serving,
)

LOGIN: dict[str, Any] = {"username": "ci", "password": "secret"}
SUBJECT = Digest.of(MANIFEST)
LIST_PATH = f"/v2/org/app/referrers/{SUBJECT}"


def moved(path: str) -> str:
    """Return the path at the other registry."""
    return path.replace("/v2/org/", "/v2/real/")


def listing(*contents: bytes, **headers: str) -> Answer:
    items = [
        {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(one)), "size": len(one)}
        for one in contents
    ]
    return manifest(json.dumps({"schemaVersion": 2, "manifests": items}).encode(), **headers)


@pytest.fixture
async def other(tls: SSLContext) -> AsyncIterator[Server]:
    """The registry that has what quay.io redirects to; everybody gets a token there."""
    async with serving(tls, "127.0.0.3") as server:
        server.on("/token", reply(200, b'{"token": "everybody"}'))
        yield server


@pytest.fixture(autouse=True)
def images(quay: Server, other: Server) -> None:
    answers = {
        V1_PATH: manifest(),
        BLOB_PATH: blob(),
        LIST_PATH: listing(b"1", Link=f'<{moved(LIST_PATH)}?page=2>; rel="next"'),
    }
    for path, answer in answers.items():
        quay.on(path, redirect(f"{other.url}{moved(path)}"))
        other.on(moved(path), guarded(answer, "Bearer everybody", challenge=challenge(other)))


def challenge(server: Server) -> str:
    return f'Bearer realm="{server.url}/token",service="other"'


async def fetched(client: UpstreamClient) -> bytes:
    async with client.blob(NAME, BLOB_DIGEST) as remote:
        return b"".join([piece async for piece in remote.chunks])


async def test_everybodys_token_of_the_other_registry_is_used(
    other: Server, connect: Connect
) -> None:
    """For its own repository there; it is fetched once, and sent at once from then on."""
    client = connect()
    assert (await client.head(NAME, V1)).size == len(MANIFEST)
    assert (await client.manifest(NAME, V1)).raw == MANIFEST
    assert await client.blob_size(NAME, BLOB_DIGEST) == len(BLOB)
    assert await fetched(client) == BLOB
    (token,) = other.at("/token")
    assert token.query == "service=other&scope=repository:real/app:pull"
    sent = [one.authorization for one in other.asked if one.path != "/token"]
    assert sent[0] is None
    assert {*sent[1:]} == {"Bearer everybody"}


async def test_a_list_of_the_other_registry_is_read_to_its_end(
    other: Server, connect: Connect
) -> None:
    """Its links name its own repository; they are followed by way of the upstream."""
    pages = [listing(b"1", Link=f'<{moved(LIST_PATH)}?page=2>; rel="next"'), listing(b"2")]
    other.on(moved(LIST_PATH), *pages)
    found = await connect().referrers(NAME, SUBJECT)
    assert found is not None
    assert [one.digest for one in found] == [Digest.of(b"1"), Digest.of(b"2")]


async def test_the_other_registry_gets_no_credentials(
    quay: Server, other: Server, connect: Connect
) -> None:
    """Neither those of the upstream, nor a token that they got, nor by a Basic challenge."""
    quay.on("/token", reply(200, b'{"token": "mine"}'))
    away = redirect(f"{other.url}{moved(V1_PATH)}")
    quay.on(V1_PATH, guarded(away, "Bearer mine", challenge=challenge(quay)))
    client = connect(**LOGIN)
    assert (await client.manifest(NAME, V1)).raw == MANIFEST
    assert {one.authorization for one in other.asked} == {None, "Bearer everybody"}
    assert {one.authorization for one in other.at("/token")} == {None}
    other.on(moved(V1_PATH), guarded(manifest(), "never", challenge='Basic realm="other"'))
    with pytest.raises(ManifestHidden, match=r"quay\.io redirects to .*, which denies access"):
        await connect(**LOGIN).manifest(NAME, V1)
    assert {one.authorization for one in other.asked} == {None, "Bearer everybody"}


async def test_what_credentials_see_elsewhere_is_not_shown_by_a_redirect(
    quay: Server, other: Server, ca: Path
) -> None:
    """The other registry is configured too, with credentials: they serve its own name alone."""

    async def token(request: Any) -> Any:
        mine = "Authorization" in request.headers
        return await reply(200, b'{"token": "%s"}' % (b"mine" if mine else b"everybody"))(request)

    other.on("/token", token)
    other.on(moved(V1_PATH), guarded(manifest(), "Bearer mine", challenge=challenge(other)))
    client = UpstreamClient(
        Upstreams(
            (
                Upstream(name=RegistryHost("quay.io"), url=quay.url, ca=ca),
                Upstream(name=RegistryHost("other.example"), url=other.url, ca=ca, **LOGIN),
            )
        ),
        environment={},
    )
    assert (await client.manifest(RepositoryName("other.example/real/app"), V1)).raw == MANIFEST
    with pytest.raises(ManifestHidden, match="which denies access to real/app without a login"):
        await client.manifest(NAME, V1)
    await client.close()
