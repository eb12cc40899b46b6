# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong with a bucket is one line at the start, with what to do."""

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from buildset_registry.errors import ConfigError
from buildset_registry.store import Purpose, open_store

from tests.ports import free_port
from tests.stores.fixtures import ObjectStores
from tests.unit.store.objects.conftest import Configure
from tests.unit.store.objects.meddler import Meddler, error, meddling

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a secret": ({"secretkey": "wrong"}, "SignatureDoesNotMatch.*correct accesskey and secretkey"),
    "a key": ({"accesskey": "wrong"}, "InvalidAccessKeyId.*correct accesskey and secretkey"),
    "half of a key": ({"secretkey": None}, "needs accesskey and secretkey, or neither"),
    "a bucket": ({"bucket": "no-such-bucket"}, "make the bucket no-such-bucket, or correct"),
    "a name": ({"regionendpoint": "http://nowhere.invalid"}, "nowhere.invalid cannot be resolved"),
    "no URL": ({"regionendpoint": "http://:9"}, "is no URL"),
    "small parts": ({"chunksize": 5}, "chunksize must be at least 5242880"),
    "a file of a secret": (
        {"secretkey": None, "secretkey_file": Path("/nowhere")},
        "cannot read secretkey_file /nowhere: No such file",
    ),
    "two secrets": ({"secretkey_file": Path("/nowhere")}, "set secretkey or secretkey_file"),
    "a CA": ({"ca": Path("/nowhere")}, "the ca /nowhere cannot be used: No such file"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_wrong_is_one_line(wrong: str, configure: Configure) -> None:
    """It names the setting, and shows no secret."""
    settings, message = WRONG[wrong]
    with pytest.raises(ConfigError, match=message) as raised:
        await open_store(configure(**settings))
    assert "\n" not in str(raised.value)


REFUSED = {
    "RequestTimeTooSkewed": "set the clock of this machine",
    "AccessDenied": "allow these credentials to list the bucket",
    "ExpiredToken": "correct accesskey and secretkey",
    "AuthorizationHeaderMalformed": "correct region, which is us-east-1 and not eu-north-7",
}


@pytest.mark.parametrize("code", REFUSED)
async def test_what_the_service_refuses_is_one_line(
    code: str, configure: Configure, meddler: Meddler
) -> None:
    """With the service's own word for it."""
    meddler.rule = lambda _request: error(403, code, Region="eu-north-7")
    with pytest.raises(ConfigError, match=f"{code}.*{REFUSED[code]}"):
        await open_store(configure())


RIGHTS: dict[str, Callable[[web.Request], bool]] = {
    "to write": lambda request: request.method == "PUT",
    "to read": lambda request: request.method == "GET" and "/probe-" in request.path,
    "to delete": lambda request: request.method == "DELETE",
    "to list its uploads": lambda request: "uploads" in request.query,
}


@pytest.mark.parametrize("right", RIGHTS)
async def test_a_right_that_is_missing_is_noticed_at_the_start(
    right: str, configure: Configure, meddler: Meddler
) -> None:
    """Not by the first push, pull or collection that needs it."""
    refused = RIGHTS[right]
    meddler.rule = lambda request: error(403, "AccessDenied") if refused(request) else None
    with pytest.raises(ConfigError, match=r"AccessDenied.*allow these credentials to list") as told:
        await open_store(configure())
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("ahead", "word"), [(1000, "ahead of"), (-1000, "behind")])
async def test_a_clock_that_is_far_off_is_noticed_at_the_start(
    ahead: int, word: str, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time that the service has for what it stores: clients are sent to URLs that end."""
    now = time.time
    monkeypatch.setattr("buildset_registry.store.objects.probe.time.time", lambda: now() + ahead)
    with pytest.raises(ConfigError, match=f"clock of this machine is 1. minutes {word}.*; set it"):
        await open_store(configure())


async def test_a_service_that_is_none_is_told_so(configure: Configure, meddler: Meddler) -> None:
    """Some page at the URL is no list of a bucket."""
    meddler.rule = lambda _request: web.Response(text="<html>Welcome</html>")
    with pytest.raises(ConfigError, match="does not answer as S3 does"):
        await open_store(configure())


async def test_a_service_without_conditions_is_refused(
    configure: Configure, meddler: Meddler
) -> None:
    """Sessions of two replicas would spoil each other; who only reads may."""

    def ignore(request: web.Request) -> web.Response | None:
        conditional = {"If-None-Match", "If-Match"} & set(request.headers)
        return web.Response(headers={"ETag": '"1"'}) if conditional else None

    meddler.rule = ignore
    with pytest.raises(ConfigError, match="does not keep the conditions"):
        await open_store(configure())
    await (await open_store(configure(), Purpose.READ)).aclose()


async def test_a_private_authority_has_to_be_named(
    configure: Configure, object_stores: ObjectStores, tls: ssl.SSLContext, ca: Path
) -> None:
    """By a setting, as for other servers; or nothing is verified."""
    async with meddling(object_stores.minio.url, free_port(), tls) as meddler:
        with pytest.raises(ConfigError, match=r"is not trusted.*name its authority by ca"):
            await open_store(configure(regionendpoint=meddler.url))
        for trusting in ({"ca": ca}, {"skipverify": True}):
            await (await open_store(configure(regionendpoint=meddler.url, **trusting))).aclose()


async def test_a_proxy_of_the_environment_is_asked(
    configure: Configure, meddler: Meddler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For whoever reaches the service by one alone: its name is the proxy's to resolve."""
    monkeypatch.setenv("HTTP_PROXY", meddler.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    store = await open_store(configure(regionendpoint="http://store.invalid"))
    await store.aclose()
    assert meddler.asked


PROXIES = {
    "of another kind": (
        "socks5://bob:secret@127.0.0.1:9",
        r"socks5://127.0.0.1:9 is of an unknown",
    ),
    "at no port": ("http://bob:secret@127.0.0.1:door", r"http://127.0.0.1:door is of an unknown"),
    "of no name": (
        "http://bob:secret@proxy.invalid:9",
        "proxy.invalid of the proxy cannot be reso",
    ),
}


@pytest.mark.parametrize("kind", PROXIES)
async def test_a_proxy_that_cannot_be_one_is_told_and_not_the_service(
    kind: str, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, without its password."""
    proxy, says = PROXIES[kind]
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=f"{says}.*HTTPS_PROXY") as told:
        await open_store(configure(regionendpoint="https://store.invalid"))
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_wants_a_login_is_told_and_not_the_service(
    scheme: str, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it makes a tunnel or not; it is asked once, since it will want one again."""
    asked: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://bob:secret@127.0.0.1:{port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(ConfigError, match=r"proxy refuses.*407 Who are you; see HTTPS_PROXY"):
            await open_store(configure(regionendpoint=f"{scheme}://store.invalid"))
    assert len(asked) == 1


async def test_a_secret_may_be_in_a_file(
    configure: Configure, object_stores: ObjectStores, tmp_path: Path
) -> None:
    """With a line's end, as editors leave it."""
    file = tmp_path / "secret"
    file.write_text(f"{object_stores.minio.secret_key}\n")
    config = configure(secretkey=None, secretkey_file=file)
    await (await open_store(config)).aclose()


async def test_credentials_may_be_in_the_environment(
    configure: Configure, object_stores: ObjectStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Amazon's own tools look for them; where there are none, a line says so."""
    config = configure(accesskey=None, secretkey=None)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(ConfigError, match="there are no credentials"):
        await open_store(config)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_stores.minio.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_stores.minio.secret_key)
    await (await open_store(config)).aclose()
