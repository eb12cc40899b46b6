# SPDX-License-Identifier: Apache-2.0
"""The store in a container of Azure: blocks, copies, signatures, and what goes wrong."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import httpx
import pytest
from buildset_registry.config import AzureSettings, Config, Endpoints, StorageSettings
from buildset_registry.errors import BlobUploadInvalid, ConfigError
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.store import open_store
from buildset_registry.store.azure.access import access_to
from buildset_registry.store.azure.dialect import AzureDialect
from buildset_registry.store.azure.documents import block_id
from buildset_registry.store.base import BlobRedirect
from buildset_registry.store.objects.dialect import Body, ObjectPart, PartsGone
from buildset_registry.store.objects.keys import Keys

from tests.ports import free_port
from tests.stores.fixtures import ObjectStores
from tests.stores.proxied import check_that_a_proxys_404_tells_of_nothing
from tests.stores.servers import AzureServer
from tests.unit.store.blobs import pieces
from tests.unit.store.objects.meddler import meddling

MIB = 1024 * 1024


@pytest.fixture
def server(object_stores: ObjectStores) -> AzureServer:
    """The Azurite of the run."""
    return object_stores.azurite


@pytest.fixture
async def dialect(server: AzureServer) -> AsyncIterator[AzureDialect]:
    """What speaks to a new container."""
    given: Any = server.settings(server.container())
    settings = AzureSettings(**given)
    async with aclosing(AzureDialect(settings, access_to(settings))) as made:
        yield made


async def content_of(dialect: AzureDialect, key: str, *span: int) -> bytes:
    """Return an object, or a part of it."""
    found = await dialect.get(key, *span)
    assert found
    return b"".join([piece async for piece in found.chunks])


async def parts_of(dialect: AzureDialect, key: str, *pieces: bytes) -> list[ObjectPart]:
    """Send an object in parts, and put it together."""
    upload = await dialect.begin(key)
    parts = [
        await dialect.put_part(upload, number, Body(len(piece), (piece,)))
        for number, piece in enumerate(pieces, 1)
    ]
    assert await dialect.head(key) is None
    await dialect.complete(upload, parts)
    return parts


async def test_nothing_of_an_object_is_seen_before_it_is_complete(dialect: AzureDialect) -> None:
    """Then all of it is, in the order of its parts; and completing it again changes nothing."""
    upload = await dialect.begin("a/key with + and %")
    second = await dialect.put_part(upload, 2, Body(3, (b"two",)))
    first = await dialect.put_part(upload, 1, Body(3, (b"o", b"ne")))
    assert await dialect.head(upload.key) is None
    assert [page.objects async for page in dialect.list("a/")] == [[]]
    for _ in range(2):
        await dialect.complete(upload, [first, second])
    assert await content_of(dialect, upload.key) == b"onetwo"
    assert await content_of(dialect, upload.key, 2, 4) == b"et"
    listed = [one async for page in dialect.list("a/") for one in page.objects]
    told = await dialect.head(upload.key)
    assert told
    # Azurite's times differ by one, where one is rounded and the other cut off.
    assert [replace(one, changed=told.changed) for one in listed] == [told]


async def test_parts_that_azure_has_removed_are_said_to_be_gone(dialect: AzureDialect) -> None:
    """It does so after a week, and when another upload of the key is complete."""
    upload = await dialect.begin("key")
    part = await dialect.put_part(upload, 1, Body(4, (b"here",)))
    gone = ObjectPart(2, 4, block_id(upload.id, 2))
    with pytest.raises(PartsGone):
        await dialect.complete(upload, [part, gone])
    assert await dialect.head("key") is None


async def test_an_object_is_moved_whole_and_in_blocks(
    server: AzureServer,
) -> None:
    """In place of another one, by copies within the service."""
    given: Any = server.settings(server.container())
    settings = AzureSettings(**given)
    for whole in (256 * MIB, 2):
        async with aclosing(AzureDialect(settings, access_to(settings), whole)) as dialect:
            await dialect.put("target", Body(3, (b"old",)))
            await parts_of(dialect, "source", b"one", b"two")
            state = await dialect.head("source")
            assert state
            await dialect.move(state, "target")
            assert await dialect.head("source") is None
            assert await content_of(dialect, "target") == b"onetwo"


async def test_a_blob_that_distribution_appended_stays_as_it_is(server: AzureServer) -> None:
    """It takes no blocks, and is no blocks' word for what it has: that is read."""
    given: Any = server.settings(server.container())
    settings = AzureSettings(**given)
    access = access_to(settings)
    async with (
        httpx.AsyncClient(trust_env=False) as client,
        aclosing(AzureDialect(settings, access)) as dialect,
    ):
        url = f"{access.url}/key?{await access.query()}"
        made = await client.put(url, headers={"x-ms-blob-type": "AppendBlob"})
        added = await client.put(f"{url}&comp=appendblock", content=b"same")
        assert (made.status_code, added.status_code) == (201, 201)
        upload = await dialect.begin("key")
        parts = [await dialect.put_part(upload, 1, Body(4, (b"same",)))]
        with pytest.raises(PartsGone):
            await dialect.complete(upload, parts)
        assert await content_of(dialect, "key") == b"same"


@pytest.mark.parametrize("damaged", [False, True])
async def test_a_push_over_a_blob_that_distribution_appended_is_held_to_its_digest(
    server: AzureServer, damaged: bool
) -> None:
    """The same content is taken; another one of the same size is not acknowledged."""
    content = bytes(9 * MIB)
    digest, key = Digest.of(content), Keys()
    given = config(server)
    assert isinstance(given.storage, StorageSettings) and given.storage.azure
    url = f"{access_to(given.storage.azure).url}/{key.blob(digest)}"
    signed = f"{url}?{await access_to(given.storage.azure).query()}"
    async with httpx.AsyncClient(trust_env=False) as client:
        made = await client.put(signed, headers={"x-ms-blob-type": "AppendBlob"})
        for start in range(0, len(content), 3 * MIB):
            piece = (b"x" if damaged else b"") + content[start + damaged : start + 3 * MIB]
            made = await client.put(f"{signed}&comp=appendblock", content=piece)
            assert made.status_code == 201
    async with aclosing(await open_store(given)) as store:
        upload = await store.uploads.create(RepositoryName("org/app"))
        await upload.append(pieces(content), last=digest)
        if damaged:
            with pytest.raises(BlobUploadInvalid, match="is damaged"):
                await upload.commit(digest)
        else:
            await upload.commit(digest)
            assert await store.blobs.size(digest) == len(content)


def config(server: AzureServer, **more: Any) -> Config:
    """Return a configuration of a new container."""
    given: Any = {**server.settings(server.container()), **more}
    return Config(endpoints=Endpoints(), storage=StorageSettings(azure=AzureSettings(**given)))


async def test_anybody_who_has_a_signed_url_reads_the_blob(server: AzureServer) -> None:
    """With ranges; one that was changed is refused, and so is writing by it."""
    content = b"content" * 100
    async with aclosing(await open_store(config(server, rootdirectory="/top/"))) as store:
        await store.blobs.put(Digest.of(content), content)
        blob = await store.blobs.open(Digest.of(content))
    assert isinstance(blob, BlobRedirect)
    assert "/top/docker/registry/v2/blobs/" in blob.url
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(blob.url)).content == content
        part = await client.get(blob.url, headers={"Range": "bytes=1-3"})
        assert (part.status_code, part.content) == (206, content[1:4])
        assert (await client.get(blob.url.replace("sig=", "sig=a"))).status_code == 403
        headers = {"x-ms-blob-type": "BlockBlob"}
        assert (await client.put(blob.url, headers=headers)).status_code == 403


WRONG_KEY = base64.b64encode(b"wrong" * 10).decode()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"accountkey": WRONG_KEY}, "correct accountname and accountkey"),
        ({"accountkey": "no key"}, "accountkey is no key of an account"),
        ({"container": "absent"}, "ContainerNotFound.*make the container absent"),
        ({"serviceurl": "http://azure.invalid/account"}, "azure.invalid cannot be resolved"),
        ({"serviceurl": "azure.invalid/account"}, "serviceurl 'azure.invalid/account' is no URL"),
        ({"ca": "/absent.pem"}, "ca /absent.pem cannot be used: No such file"),
    ],
)
async def test_what_is_wrong_at_the_start_is_said_in_a_line(
    server: AzureServer, more: dict[str, Any], says: str
) -> None:
    """What it is, and what to do; no secret."""
    with pytest.raises(ConfigError, match=says) as caught:
        await open_store(config(server, **more))
    said = str(caught.value)
    assert "\n" not in said
    assert server.key not in said
    assert "sig=" not in said


async def test_a_proxys_page_tells_nothing_of_an_object(server: AzureServer) -> None:
    """Whatever it was asked by."""
    host, _slash, account = server.url.rpartition("/")
    async with meddling(host, free_port()) as meddler:
        url = f"{meddler.url}/{account}"
        given: Any = server.settings(server.container(), serviceurl=url)
        settings = AzureSettings(**given)
        async with aclosing(AzureDialect(settings, access_to(settings))) as dialect:
            await check_that_a_proxys_404_tells_of_nothing(dialect, meddler, "key")
