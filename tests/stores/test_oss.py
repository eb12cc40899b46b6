# SPDX-License-Identifier: Apache-2.0
"""The store in a bucket of Alibaba Cloud OSS: signatures, conditions, parts, what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from alibabacloud_oss_v2.signer import SignerV4
from alibabacloud_oss_v2.types import Credentials, HttpRequest, SigningContext
from buildset_registry.config import Config, Endpoints, OssSettings, StorageSettings
from buildset_registry.errors import ConfigError
from buildset_registry.oci.digest import Digest
from buildset_registry.store import open_store
from buildset_registry.store.base import BlobRedirect
from buildset_registry.store.objects.connection import ServiceRequest
from buildset_registry.store.objects.dialect import ABSENT, Body, Condition, ConditionFailed
from buildset_registry.store.oss.access import access_to
from buildset_registry.store.oss.dialect import OssDialect

from tests.stores.fixtures import ObjectStores
from tests.stores.oss_server import canonical, signature
from tests.stores.servers import OssServer, fresh_name

PART = 128 * 1024
SETTINGS: dict[str, Any] = {
    "bucket": "images",
    "region": "oss-cn-hangzhou",
    "accesskeyid": "ak",
    "accesskeysecret": "sk",
}


@pytest.fixture
def server(object_stores: ObjectStores) -> OssServer:
    """The server of the run."""
    return object_stores.fake_oss


@pytest.fixture
async def dialect(server: OssServer) -> AsyncIterator[OssDialect]:
    """What speaks to the bucket."""
    given: Any = server.settings("")
    settings = OssSettings(**given)
    async with aclosing(OssDialect(settings, access_to(settings))) as made:
        yield made


def config(server: OssServer, **more: Any) -> Config:
    """Return a configuration of a new folder in the bucket."""
    given: Any = {**server.settings(fresh_name()), **more}
    return Config(endpoints=Endpoints(), storage=StorageSettings(oss=OssSettings(**given)))


def of(content: bytes) -> Body:
    """Return a body."""
    return Body(len(content), (content,))


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (1702743657, "e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe"),
        (1702784856, "b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea"),
    ],
)
def test_the_server_of_the_tests_signs_as_alibaba_does(seconds: int, told: str) -> None:
    """By the vectors of Alibaba's own library, without a token and with one."""
    at = datetime.fromtimestamp(seconds, timezone.utc)
    token = {"x-oss-security-token": "token"} if seconds == 1702784856 else {}
    query = dict.fromkeys(("+param2", "|param2", "param2"), "")
    query |= {"param1": "value1", "+param1": "value3", "|param1": "value4"}
    headers = {"x-oss-head1": "value", "abc": "value", "ZAbc": "value", "XYZ": "value", **token}
    headers |= {"content-type": "text/plain", "x-oss-content-sha256": "UNSIGNED-PAYLOAD"}
    headers["x-oss-date"] = stamp = at.strftime("%Y%m%dT%H%M%SZ")
    request = canonical("PUT", "/bucket/1234+-/123/1.txt", query, headers)
    assert signature("sk", stamp, "cn-hangzhou", request) == told


async def test_requests_are_signed_for_the_bucket_the_key_and_the_query() -> None:
    """As Alibaba's own library signs them, with the name of the bucket whatever the host is."""
    settings = OssSettings(**{**SETTINGS, "endpoint": "https://cdn.example.com"})
    access = access_to(settings)
    url = f"{access.url}/top/a%20b?uploads"
    headers = await access.sign(ServiceRequest("POST", url, {}, Body(0, ())))
    asked = HttpRequest("POST", url, headers={"Content-Type": "application/octet-stream"})
    context = SigningContext(
        product="oss",
        region="cn-hangzhou",
        bucket="images",
        key="top/a b",
        request=asked,
        credentials=Credentials("ak", "sk"),
        signing_time=datetime.strptime(headers["x-oss-date"], "%Y%m%dT%H%M%SZ").replace(
            tzinfo=timezone.utc
        ),
    )
    SignerV4().sign(context)
    assert headers["Authorization"] == asked.headers["Authorization"]


@pytest.mark.parametrize(
    ("more", "url"),
    [
        ({}, "https://images.oss-cn-hangzhou.aliyuncs.com"),
        ({"region": "cn-hangzhou"}, "https://images.oss-cn-hangzhou.aliyuncs.com"),
        ({"internal": True}, "https://images.oss-cn-hangzhou-internal.aliyuncs.com"),
        ({"secure": False}, "http://images.oss-cn-hangzhou.aliyuncs.com"),
        (
            {"endpoint": "images.oss-cn-beijing.aliyuncs.com"},
            "https://images.oss-cn-beijing.aliyuncs.com",
        ),
        ({"endpoint": "oss-cn-beijing.aliyuncs.com"}, "https://images.oss-cn-beijing.aliyuncs.com"),
        ({"endpoint": "http://blobs.example.com/"}, "http://blobs.example.com"),
    ],
)
def test_the_bucket_has_a_host_of_its_own(more: dict[str, Any], url: str) -> None:
    """Which distribution's ``endpoint`` names with the bucket, or without it by mistake."""
    assert access_to(OssSettings(**{**SETTINGS, **more})).url == url


async def test_one_of_many_makes_an_object(dialect: OssDialect) -> None:
    """By the service's own condition; one that is replaced is looked at before."""
    key = fresh_name()

    async def make(content: bytes) -> str | None:
        try:
            return await dialect.put(key, of(content), ABSENT)
        except ConditionFailed:
            return None

    made = [one for one in await asyncio.gather(*(make(b"%d" % n) for n in range(8))) if one]
    assert len(made) == 1
    second = await dialect.put(key, of(b"second"), Condition(made[0]))
    with pytest.raises(ConditionFailed):
        await dialect.put(key, of(b"third"), Condition(made[0]))
    state = await dialect.head(key)
    assert state
    assert (state.version, state.size) == (second, 6)


async def test_an_object_is_copied_whole_and_in_parts(
    dialect: OssDialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the service; nothing of the first one stays."""
    content = bytes(range(256)) * (3 * PART // 256)
    for name, whole in (("whole", len(content)), ("parts", PART)):
        rules = replace(dialect._rules, copied_whole=whole, copied_part=PART, least_part=PART)
        monkeypatch.setattr(dialect, "_rules", rules)
        source, target = fresh_name() + " +%", f"{fresh_name()}/{name}"
        await dialect.put(source, of(content))
        state = await dialect.head(source)
        assert state
        await dialect.move(state, target)
        found = await dialect.get(target)
        assert found
        assert b"".join([piece async for piece in found.chunks]) == content
        assert await dialect.head(source) is None


async def test_all_uploads_that_nobody_completed_are_found(dialect: OssDialect) -> None:
    """However many pages of them there are."""
    top = f"{fresh_name()}/"
    begun = [await dialect.begin(f"{top}{number}") for number in range(8)]
    assert [one async for one in dialect.stale(top, 0)] == []
    found = [one async for one in dialect.stale(top, 2**40)]
    assert sorted(one.id for one in found) == sorted(one.id for one in begun)
    await dialect.abandon(f"{top}3", 2**40)
    for one in begun:
        await dialect.abort(one)
    assert [one async for one in dialect.stale(top, 2**40)] == []


async def test_anybody_who_has_a_signed_url_reads_the_blob(server: OssServer) -> None:
    """With ranges; one that was changed is refused, and so is writing by it."""
    content = b"content" * 100
    async with aclosing(await open_store(config(server))) as store:
        await store.blobs.put(Digest.of(content), content)
        blob = await store.blobs.open(Digest.of(content))
    assert isinstance(blob, BlobRedirect)
    assert urlsplit(blob.url).path.endswith("/data")
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(blob.url)).content == content
        part = await client.get(blob.url, headers={"Range": "bytes=1-3"})
        assert (part.status_code, part.content) == (206, content[1:4])
        assert (await client.get(f"{blob.url}0")).status_code == 403
        assert (await client.put(blob.url)).status_code == 403


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"accesskeysecret": "wrong"}, "SignatureDoesNotMatch.*correct accesskeyid and access"),
        ({"accesskeyid": "wrong"}, "InvalidAccessKeyId.*correct accesskeyid and access"),
        ({"bucket": "another"}, "SignatureDoesNotMatch"),
        ({"accesskeysecret": None}, "needs accesskeyid and accesskeysecret, or neither"),
        ({"accesskeyid": None, "accesskeysecret": None}, "there are no credentials; set access"),
        ({"endpoint": "http://oss.invalid"}, "oss.invalid cannot be resolved"),
        ({"endpoint": "http://:9"}, "is no URL; correct it"),
        ({"chunksize": 5}, "chunksize must be at least 5242880"),
        ({"ca": "/absent.pem"}, "ca /absent.pem cannot be used: No such file"),
    ],
)
async def test_what_is_wrong_at_the_start_is_said_in_a_line(
    server: OssServer, more: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is, and what to do; no secret."""
    monkeypatch.delenv("OSS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(ConfigError, match=says) as caught:
        await open_store(config(server, **more))
    said = str(caught.value)
    assert "\n" not in said
    assert server.secret not in said


async def test_credentials_may_be_in_the_environment(
    server: OssServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Alibaba's own library looks for them."""
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", server.secret)
    given = config(server, accesskeyid=None, accesskeysecret=None)
    async with aclosing(await open_store(given)) as store:
        assert await store.space.problem() is None
