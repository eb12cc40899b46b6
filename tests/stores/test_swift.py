# SPDX-License-Identifier: Apache-2.0
"""The store in a container of Swift: tokens, segments, temporary URLs, and what goes wrong."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import pytest
import trustme
from buildset_registry.config import (
    Config,
    Endpoints,
    RedirectSettings,
    StorageSettings,
    SwiftSettings,
)
from buildset_registry.errors import ConfigError
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.store import open_store
from buildset_registry.store.base import BlobRedirect, Store
from buildset_registry.store.objects.connection import ServiceRequest
from buildset_registry.store.objects.dialect import Body, PartUpload
from buildset_registry.store.swift.access import SwiftAccess, access_to
from buildset_registry.store.swift.dialect import SwiftDialect

from tests.ports import free_port
from tests.stores.fixtures import ObjectStores
from tests.stores.proxied import check_that_a_proxys_404_tells_of_nothing
from tests.stores.swift import Swift
from tests.unit.store.blobs import content_of, pieces
from tests.unit.store.objects.meddler import meddling

NAME = RepositoryName("org/app")
MIB = 1024 * 1024
LARGE = bytes(range(256)) * (14 * 1024)  # 3.5 MiB
DIGEST = Digest.of(LARGE)


@pytest.fixture
def server(object_stores: ObjectStores) -> Swift:
    """The Swift of the run."""
    return object_stores.swift


@pytest.fixture
def container(server: Swift) -> str:
    """A container of the test's own."""
    return server.container()


def config(server: Swift, container: str, **more: Any) -> Config:
    """Return a configuration of a container, with small segments."""
    redirect = RedirectSettings(disable=more.pop("disable", True))
    settings: Any = server.settings(container, **{"chunksize": MIB, **more})
    storage = StorageSettings(swift=SwiftSettings(**settings), redirect=redirect)
    return Config(endpoints=Endpoints(), storage=storage)


@asynccontextmanager
async def opened(server: Swift, container: str, **more: Any) -> AsyncIterator[Store]:
    """Open the store in a container."""
    async with aclosing(await open_store(config(server, container, **more))) as store:
        yield store


@asynccontextmanager
async def dialect_of(
    server: Swift, container: str, **more: Any
) -> AsyncIterator[tuple[SwiftDialect, SwiftAccess]]:
    """Open what speaks to a container."""
    settings: Any = server.settings(container, **{"chunksize": MIB, **more})
    access = access_to(SwiftSettings(**settings))
    async with aclosing(SwiftDialect(SwiftSettings(**settings), access)) as dialect:
        yield dialect, access


def names(server: Swift, container: str, part: str = "") -> list[str]:
    """Return the objects of a container that have something in their names."""
    listed = server.ask("GET", f"/{container}", params={"format": "json"}).json()
    return [one["name"] for one in listed if part in one["name"]]


async def push(store: Store, content: bytes = LARGE) -> None:
    """Push a blob in two chunks, so that its digest is known at the end only."""
    upload = await store.uploads.create(NAME)
    await upload.append(pieces(content[: 2 * MIB]))
    await upload.append(pieces(content[2 * MIB :]))
    await upload.commit(Digest.of(content))


async def test_a_large_blob_has_its_segments_where_they_were_sent(
    server: Swift, container: str
) -> None:
    """Another manifest names them; nothing of the session stays."""
    async with opened(server, container, prefix="/top/") as store:
        await push(store)
        assert await store.blobs.size(DIGEST) == len(LARGE)
        blob = await store.blobs.open(DIGEST)
        assert blob
        assert await content_of(blob) == LARGE
        piece = b"".join([one async for one in blob.chunks(MIB - 3, MIB + 5)])
        assert piece == LARGE[MIB - 3 : MIB + 5]
    key = f"top/files/docker/registry/v2/blobs/sha256/{DIGEST.hex[:2]}/{DIGEST.hex}/data"
    assert names(server, container, "/data") == [key]
    assert names(server, container, "_uploads") == []
    stored = server.ask("HEAD", f"/{container}/{key}")
    assert stored.headers["X-Static-Large-Object"] == "True"
    segments = names(server, container, "top/segments/")
    assert len(segments) == 4 + 1  # and whose they are


async def test_a_blob_that_is_removed_takes_its_segments_along(
    server: Swift, container: str
) -> None:
    """Nothing of it stays; pushed twice, nothing of the first stays either."""
    async with opened(server, container) as store:
        await push(store)
        await push(store)
        assert len(names(server, container, "segments/")) == 5
        assert await store.blobs.sweep(DIGEST, 2**40, 2**40)
        assert await store.blobs.size(DIGEST) is None
    assert names(server, container, "segments/") == []


async def test_two_manifests_of_the_same_segments_may_lose_the_older_one(
    server: Swift, container: str
) -> None:
    """A replica that is killed while it moves an object leaves both; no byte of it is lost."""
    async with dialect_of(server, container) as (dialect, _access):
        upload = await dialect.begin("old")
        parts = [await dialect.put_part(upload, 1, Body(3, (b"one",)))]
        await dialect.complete(upload, parts)
        raw = server.ask("GET", f"/{container}/old?multipart-manifest=get&format=raw").content
        state = await dialect.head("old")
        assert state
        await dialect.move(state, "new")
        again = server.ask("PUT", f"/{container}/old?multipart-manifest=put", content=raw)
        assert again.status_code == 201
        await dialect.abort(upload)
        await dialect.delete("old")
        assert await dialect.head("old") is None
        found = await dialect.get("new")
        assert found
        assert b"".join([piece async for piece in found.chunks]) == b"one"
        await dialect.delete("new")
    assert names(server, container) == []


async def test_what_takes_the_place_of_a_large_object_removes_its_segments(
    server: Swift, container: str
) -> None:
    """Not before it is there: where it cannot be written, the other one stays."""
    async with dialect_of(server, container) as (dialect, _access):
        upload = await dialect.begin("key")
        parts = [await dialect.put_part(upload, 1, Body(MIB, (LARGE[:MIB],)))]
        await dialect.complete(upload, parts)
        whole = Body(2 * MIB, (LARGE[: 2 * MIB],))
        quota = "X-Container-Meta-Quota-Bytes"
        server.ask("POST", f"/{container}", headers={quota: str(MIB)})
        with pytest.raises(OSError, match="413"):
            await dialect.put("key", whole)
        found = await dialect.get("key")
        assert found
        assert b"".join([piece async for piece in found.chunks]) == LARGE[:MIB]
        server.ask("POST", f"/{container}", headers={quota: str(9 * MIB)})
        await dialect.put("key", whole)
    assert names(server, container) == ["key"]


async def test_an_object_has_more_segments_than_a_manifest(server: Swift, container: str) -> None:
    """Then it is put together of objects that are put together."""
    async with dialect_of(server, container) as (dialect, _access):
        dialect.large.most = 2
        upload = await dialect.begin("many")
        parts = [
            await dialect.put_part(upload, number, Body(1, (b"%d" % number,)))
            for number in range(1, 6)
        ]
        await dialect.complete(upload, parts)
        state, found = await dialect.head("many"), await dialect.get("many", 1, 4)
        assert state
        assert state.size == 5
        assert found
        assert b"".join([piece async for piece in found.chunks]) == b"234"
        await dialect.move(state, "moved")
        listed = [one async for page in dialect.list("moved") for one in page.objects]
        assert [one.size for one in listed] == [5]
        await dialect.delete("moved")
    assert names(server, container) == []


async def test_what_no_object_is_made_of_is_found(server: Swift, container: str) -> None:
    """The segments of an upload that was never completed; not those of one that was."""
    async with dialect_of(server, container) as (dialect, _access):
        dropped, kept = await dialect.begin("dropped"), await dialect.begin("kept")
        await dialect.put_part(dropped, 1, Body(1, (b"1",)))
        parts = [await dialect.put_part(kept, 1, Body(1, (b"1",)))]
        await dialect.complete(kept, parts)
        assert [one async for one in dialect.stale("", 0)] == []
        found: list[PartUpload] = [one async for one in dialect.stale("", 2**40)]
        assert found == [dropped]
        assert [one async for one in dialect.stale("other", 2**40)] == []
        await dialect.abort(dropped)
        assert await dialect.head("kept")
    assert len(names(server, container, "segments/")) == 2


async def test_a_token_that_ends_in_mid_upload_is_renewed(server: Swift, container: str) -> None:
    """The upload goes on; so do several requests at once."""
    async with dialect_of(server, container) as (dialect, access):
        upload = await dialect.begin("key")
        parts = [await dialect.put_part(upload, 1, Body(MIB, (LARGE[:MIB],)))]
        request = ServiceRequest("GET", server.storage_url)
        used = (await access.sign(request))["X-Auth-Token"]
        server.end_token(used)
        parts.append(await dialect.put_part(upload, 2, Body(3, (b"two",))))
        await dialect.complete(upload, parts)
        assert (await access.sign(request))["X-Auth-Token"] != used
        state = await dialect.head("key")
        assert state
        assert state.size == MIB + 3


@pytest.mark.parametrize("content", [LARGE, b"small"], ids=["large", "small"])
async def test_anybody_who_has_a_temporary_url_reads_the_blob(
    server: Swift, container: str, content: bytes
) -> None:
    """With ranges, and without a token; a URL that was changed is refused."""
    async with opened(server, container, disable=False) as store:
        await push(store, content)
        blob = await store.blobs.open(Digest.of(content))
    assert isinstance(blob, BlobRedirect)
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(blob.url)).content == content
        part = await client.get(blob.url, headers={"Range": "bytes=1-3"})
        assert (part.status_code, part.content) == (206, content[1:4])
        assert (await client.get(blob.url.replace("sig=", "sig=0"))).status_code == 401


async def test_replicas_make_the_same_key_for_temporary_urls(server: Swift, container: str) -> None:
    """And keep one that somebody else gave to the container."""
    async with dialect_of(server, container) as (first, _access):
        await first.probe()
    header = "X-Container-Meta-Temp-Url-Key"
    made = server.ask("HEAD", f"/{container}").headers[header]
    server.ask("POST", f"/{container}", headers={"X-Remove-Container-Meta-Temp-Url-Key": "x"})
    async with dialect_of(server, container) as (second, _access):
        await second.probe()
    assert server.ask("HEAD", f"/{container}").headers[header] == made
    server.ask("POST", f"/{container}", headers={header: "theirs"})
    async with dialect_of(server, container) as (third, _access):
        await third.probe()
    assert server.ask("HEAD", f"/{container}").headers[header] == "theirs"


async def test_a_key_that_was_replaced_is_found(
    server: Swift, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever replaces it keeps the old one as the second key, by which links go on working."""
    monkeypatch.setattr("buildset_registry.store.swift.dialect._KEY_SECONDS", -1)
    header = "X-Container-Meta-Temp-Url-Key"
    async with (
        dialect_of(server, container) as (dialect, _access),
        httpx.AsyncClient(trust_env=False) as client,
    ):
        await dialect.probe()
        await dialect.put("key", Body(3, (b"one",)))
        old = server.ask("HEAD", f"/{container}").headers[header]
        told = {header: "replaced", f"{header}-2": old}
        server.ask("POST", f"/{container}", headers=told)
        for content in (b"one", b"one"):
            url = await dialect.sign("key")
            assert url
            assert (await client.get(url)).content == content
            assert dialect._looking
            await dialect._looking
        assert dialect._key == "replaced"


async def test_a_proxys_page_tells_nothing_of_an_object(server: Swift, container: str) -> None:
    """Whatever it was asked by."""
    host, version, account = server.storage_url.partition("/v1/")
    async with (
        meddling(host, free_port()) as meddler,
        dialect_of(server, container) as (dialect, _access),
    ):
        dialect._container.url = f"{meddler.url}{version}{account}/{container}"
        await check_that_a_proxys_404_tells_of_nothing(dialect, meddler, "key")


async def test_an_application_credential_is_enough(server: Swift, container: str) -> None:
    """No password, no project."""
    credential = {
        "applicationcredentialid": server.credential_id,
        "applicationcredentialsecret": server.credential_secret,
    }
    nothing = dict.fromkeys(("username", "password", "tenant", "domain"))
    async with opened(server, container, **nothing, **credential) as store:
        await store.blobs.put(Digest.of(b"one"), b"one")
        assert await store.blobs.read(Digest.of(b"one")) == b"one"


async def test_the_environment_says_what_the_configuration_does_not(
    server: Swift, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for OpenStack's own client."""
    monkeypatch.setenv("OS_AUTH_URL", server.auth_url)
    monkeypatch.setenv("OS_USERNAME", server.username)
    monkeypatch.setenv("OS_PASSWORD", server.password)
    monkeypatch.setenv("OS_PROJECT_NAME", server.project)
    nothing = dict.fromkeys(("authurl", "username", "password", "tenant", "domain", "region"))
    async with opened(server, container, **nothing) as store:
        assert await store.space.problem() is None


async def test_a_container_that_is_full_is_said_to_be(server: Swift, container: str) -> None:
    """The upload ends, and what it sent is removed."""
    quota = {"X-Container-Meta-Quota-Bytes": str(2 * MIB)}
    server.ask("POST", f"/{container}", headers=quota)
    async with opened(server, container) as store:
        with pytest.raises(OSError, match=r"quota|413"):
            await push(store)
        assert await store.blobs.size(DIGEST) is None


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"password": "wrong"}, "correct username and password"),
        ({"container": "absent"}, "make the container absent, or correct its name"),
        ({"username": "guest"}, "give the user a role that may list and change the container"),
        (
            {"region": "Nowhere"},
            "in region Nowhere; correct region or endpointtype .there is: RegionOne.",
        ),
        ({"authurl": "http://keystone.invalid/v3"}, "Keystone cannot be resolved; correct authurl"),
        ({"authurl": "keystone.invalid"}, "authurl 'keystone.invalid' is no URL; correct it"),
        ({"tenant": "nobody"}, "correct username and password, tenant and domain"),
        ({"tenant": None}, "needs tenant, tenantid or trustid"),
        ({"username": None}, "needs username and password, or applicationcredentialid"),
        ({"authurl": None}, "authurl is missing"),
        ({"chunksize": 1000}, "chunksize must be at least 1048576"),
        ({"chunksize": 6 * 1024**3}, "chunksize must be at most"),
        ({"ca": "/absent.pem"}, "ca /absent.pem cannot be used: No such file"),
    ],
)
async def test_what_is_wrong_at_the_start_is_said_in_a_line(
    server: Swift, container: str, more: dict[str, Any], says: str
) -> None:
    """What it is, and what to do; no secret."""
    with pytest.raises(ConfigError, match=says) as caught:
        await open_store(config(server, **{"container": container, **more}))
    said = str(caught.value)
    assert "\n" not in said
    assert server.password not in said


async def test_a_keystone_that_does_not_answer_is_said_in_a_line(
    server: Swift, container: str
) -> None:
    """Nobody listens there."""
    url = f"http://127.0.0.1:{free_port()}/v3"
    with pytest.raises(
        ConfigError, match="Keystone: connection refused; correct authurl, which is"
    ):
        await open_store(config(server, container, authurl=url))


async def test_a_keystone_behind_tls_is_told_by_its_certificate(
    server: Swift, container: str
) -> None:
    """What the authority is not known for, and what does not speak TLS at all."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    async with meddling(server.auth_url, free_port(), tls) as meddler:
        with pytest.raises(ConfigError, match=r"Keystone is not trusted \(.*\); set ca to"):
            await open_store(config(server, container, authurl=meddler.url))
    async with meddling(server.auth_url, free_port()) as meddler:
        plain = meddler.url.replace("http:", "https:")
        with pytest.raises(ConfigError, match=r"Keystone does not speak TLS.*; correct authurl"):
            await open_store(config(server, container, authurl=plain))


@pytest.mark.parametrize(
    ("proxy", "says"),
    [
        ("http://bob:secret@127.0.0.1:{closed}", "the proxy on the way to Keystone.*refused"),
        ("http://bob:secret@proxy.invalid:9", "the proxy on the way to Keystone"),
        ("socks5://bob:secret@127.0.0.1:9", "the proxy socks5://127.0.0.1:9 is of an unknown kind"),
    ],
)
async def test_a_proxy_that_leads_nowhere_is_told_and_not_keystone(
    server: Swift, container: str, proxy: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, without its password."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.format(closed=free_port()))
    with pytest.raises(ConfigError, match=f"{says}.*HTTPS_PROXY") as caught:
        await open_store(config(server, container, authurl="https://keystone.invalid/v3"))
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
