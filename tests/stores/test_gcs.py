# SPDX-License-Identifier: Apache-2.0
"""The store in a bucket of Google: composition, generations, signed URLs, and what goes wrong."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from aiohttp import web
from buildset_registry.config import Config, Endpoints, GcsSettings, StorageSettings
from buildset_registry.errors import ConfigError
from buildset_registry.oci.digest import Digest
from buildset_registry.store import open_store
from buildset_registry.store.base import BlobRedirect
from buildset_registry.store.gcs.access import access_to
from buildset_registry.store.gcs.dialect import GcsDialect
from buildset_registry.store.objects.dialect import Body, ObjectFailure, PartUpload
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.ports import free_port
from tests.stores.fixtures import ObjectStores
from tests.stores.proxied import check_that_a_proxys_404_tells_of_nothing
from tests.stores.servers import GoogleServer
from tests.unit.store.objects.meddler import meddling


@pytest.fixture
def server(object_stores: ObjectStores) -> GoogleServer:
    """The fake-gcs-server of the run."""
    return object_stores.fake_gcs


@pytest.fixture
async def dialect(server: GoogleServer) -> AsyncIterator[GcsDialect]:
    """What speaks to a new bucket."""
    given: Any = server.settings(server.bucket(), rootdirectory="/top")
    settings = GcsSettings(**given)
    async with aclosing(GcsDialect(settings, access_to(settings))) as made:
        yield made


async def content_of(dialect: GcsDialect, key: str) -> bytes:
    """Return an object whole."""
    found = await dialect.get(key)
    assert found
    return b"".join([piece async for piece in found.chunks])


async def keys_of(dialect: GcsDialect) -> list[str]:
    """Return the keys of all objects."""
    return [one.key async for page in dialect.list("") for one in page.objects]


async def test_more_parts_than_are_composed_at_once_are_composed_step_by_step(
    dialect: GcsDialect,
) -> None:
    """In their order, and nothing of them stays."""
    upload = await dialect.begin("key/of + it")
    parts = [
        await dialect.put_part(upload, number, Body(3, (b"%03d" % number,)))
        for number in range(1, 70)
    ]
    assert await dialect.head(upload.key) is None
    await dialect.complete(upload, parts)
    whole = b"".join(b"%03d" % number for number in range(1, 70))
    assert await content_of(dialect, upload.key) == whole
    state = await dialect.head(upload.key)
    assert state
    await dialect.move(state, "moved")
    assert await content_of(dialect, "moved") == whole
    assert await keys_of(dialect) == ["moved"]


async def test_what_was_never_complete_is_found_and_removed(dialect: GcsDialect) -> None:
    """It is known by the key that it was for."""
    upload = await dialect.begin("key")
    await dialect.put_part(upload, 1, Body(1, (b"1",)))
    assert [one async for one in dialect.stale("k", 0)] == []
    found: list[PartUpload] = [one async for one in dialect.stale("k", 2**40)]
    assert found == [upload]
    assert [one async for one in dialect.stale("other", 2**40)] == []
    await dialect.abort(upload)
    assert await keys_of(dialect) == []


def config(server: GoogleServer, **more: Any) -> Config:
    """Return a configuration of a new bucket."""
    given: Any = {**server.settings(server.bucket()), **more}
    return Config(endpoints=Endpoints(), storage=StorageSettings(gcs=GcsSettings(**given)))


async def test_a_signed_url_has_the_signature_that_google_describes(server: GoogleServer) -> None:
    """The server of the tests looks at none, so it is made here once more (V4, RSA-SHA256)."""
    content = b"content" * 100
    async with aclosing(await open_store(config(server))) as store:
        await store.blobs.put(Digest.of(content), content)
        blob = await store.blobs.open(Digest.of(content))
    assert isinstance(blob, BlobRedirect)
    parts = urlsplit(blob.url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    signature = query.pop("X-Goog-Signature", "") or query.pop("x-goog-signature", "")
    canonical = "&".join(f"{name}={quote(query[name], safe='')}" for name in sorted(query))
    asked = f"GET\n{parts.path}\n{canonical}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    scope = query["X-Goog-Credential"].partition("/")[2]
    hashed = hashlib.sha256(asked.encode()).hexdigest()
    text = f"GOOG4-RSA-SHA256\n{query['X-Goog-Date']}\n{scope}\n{hashed}"
    key = load_pem_private_key(json.loads(server.keyfile.read_text())["private_key"].encode(), None)
    assert isinstance(key, RSAPrivateKey)
    assert signature == key.sign(text.encode(), PKCS1v15(), SHA256()).hex()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"bucket": "absent"}, "make the bucket absent, or correct its name"),
        ({"keyfile": Path("/absent.json")}, "keyfile cannot be used: .*No such file.*set keyfile"),
        ({"endpoint": "http://google.invalid"}, "google.invalid cannot be resolved"),
        (
            {"endpoint": "google.invalid"},
            "storage.gcs.endpoint 'google.invalid' is no URL; correct",
        ),
        ({"chunksize": 5}, "chunksize must be at least 1048576"),
    ],
)
async def test_what_is_wrong_at_the_start_is_said_in_a_line(
    server: GoogleServer, more: dict[str, Any], says: str
) -> None:
    """What it is, and what to do."""
    with pytest.raises(ConfigError, match=says) as caught:
        await open_store(config(server, **more))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("page", ["<html>Welcome</html>", "{}", "[]"])
async def test_a_page_is_no_list_of_a_bucket(server: GoogleServer, page: str) -> None:
    """Whoever answers there: it is told at the start."""
    async with meddling(server.url, free_port()) as meddler:
        meddler.rule = lambda _request: web.Response(text=page)
        with pytest.raises(ConfigError, match="does not answer as Google does; correct endpoint"):
            await open_store(config(server, endpoint=meddler.url))


@pytest.mark.parametrize("page", ["<html>Welcome</html>", "{}", "[]"])
async def test_what_no_answer_says_was_copied_is_not_removed(
    server: GoogleServer, page: str
) -> None:
    """A page of a proxy with a good status is a failure of the store, to a description as well."""
    async with meddling(server.url, free_port()) as meddler:
        given: Any = server.settings(server.bucket(), endpoint=meddler.url)
        settings = GcsSettings(**given)
        async with aclosing(GcsDialect(settings, access_to(settings))) as dialect:
            await dialect.put("key", Body(3, (b"one",)))
            state = await dialect.head("key")
            assert state is not None
            meddler.fail(1, lambda: web.Response(text=page), of="POST")
            with pytest.raises(ObjectFailure, match="does not say whether it has copied"):
                await dialect.move(state, "other")
            meddler.fail(1, lambda: web.Response(text=page), of="GET")
            with pytest.raises(ObjectFailure, match="no description"):
                await dialect.head("key")
            assert await dialect.head("key") == state


async def test_a_key_file_that_is_none_is_said_in_a_line(
    server: GoogleServer, tmp_path: Path
) -> None:
    """Whatever is in it."""
    for content in ("", "{}", '{"type": "service_account"}'):
        path = tmp_path / "keyfile.json"
        path.write_text(content)
        with pytest.raises(ConfigError, match="keyfile cannot be used") as caught:
            await open_store(config(server, keyfile=path))
        assert "\n" not in str(caught.value)


async def test_a_proxys_page_tells_nothing_of_an_object(server: GoogleServer) -> None:
    """Whatever it was asked by."""
    async with meddling(server.url, free_port()) as meddler:
        given: Any = server.settings(server.bucket(), endpoint=meddler.url)
        settings = GcsSettings(**given)
        async with aclosing(GcsDialect(settings, access_to(settings))) as dialect:
            await check_that_a_proxys_404_tells_of_nothing(dialect, meddler, "key")


async def test_signing_keeps_nobody_waiting(
    server: GoogleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RSA takes milliseconds, and an identity without a key asks Google to sign: in a thread."""
    given: Any = server.settings("bucket")
    access = access_to(GcsSettings(**given))
    signed: list[threading.Thread] = []

    class Signing(type(access._credentials)):  # type: ignore[misc]  # what a test is about
        def sign_bytes(self, message: bytes) -> bytes:
            signed.append(threading.current_thread())
            return bytes(super().sign_bytes(message))

    monkeypatch.setattr(access._credentials, "__class__", Signing)
    assert await access.signed_url("name")
    assert signed
    assert threading.main_thread() not in signed
