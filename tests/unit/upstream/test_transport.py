# SPDX-License-Identifier: Apache-2.0
"""Requests over the network: redirects, proxies, certificates, and what is never asked."""

import asyncio
import base64
import contextlib
import datetime
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from aiohttp.web import BaseRequest, StreamResponse
from buildset_registry.errors import UpstreamFailed
from buildset_registry.protocol.errors import UpstreamError
from buildset_registry.upstream.hosts import UpstreamRequest
from buildset_registry.upstream.transport import Timeouts, Transport
from trustme import CA

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
    ConnectProxy,
    Server,
    blob,
    guarded,
    halting,
    manifest,
    redirect,
    reply,
    serving,
    slow,
)

LOGIN: dict[str, Any] = {"username": "ci", "password": "secret"}
CHALLENGE = 'Basic realm="quay"'
BASIC = "Basic " + base64.b64encode(b"ci:secret").decode()


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    made = Transport("tests", {}, Timeouts(connect=5, read=5))
    yield made
    await made.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_within_the_registry_keeps_the_login(
    quay: Server, connect: Connect, status: int
) -> None:
    """As clients do: it is the same server."""
    quay.on(BLOB_PATH, redirect("/elsewhere?x=%2F", status))
    quay.on("/elsewhere", guarded(blob(), BASIC, challenge=CHALLENGE))
    assert await connect(**LOGIN).blob_size(NAME, BLOB_DIGEST) == len(BLOB)
    assert [one.query for one in quay.at("/elsewhere")] == ["x=%2F"] * 2


async def test_a_redirect_elsewhere_leaves_the_login_behind(
    quay: Server, storage: Server, connect: Connect
) -> None:
    """Storage is asked by the signed URL alone, exactly as it was signed."""
    quay.on(BLOB_PATH, guarded(redirect(f"{storage.url}/b?sig=a%2Bb"), BASIC, challenge=CHALLENGE))
    storage.on("/b", redirect(f"{storage.url}/c?sig=a%2Bb"))
    storage.on("/c", blob())
    assert await connect(**LOGIN).blob_size(NAME, BLOB_DIGEST) == len(BLOB)
    assert [(one.query, one.authorization) for one in storage.asked] == [("sig=a%2Bb", None)] * 2


async def test_a_signature_is_not_logged(
    quay: Server, storage: Server, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever reads the log could fetch with it."""
    quay.on(BLOB_PATH, redirect(f"{storage.url}/b?sig=secret"))
    storage.on("/b", blob())
    with caplog.at_level(logging.INFO):
        await connect().blob_size(NAME, BLOB_DIGEST)
    ours = [one.getMessage() for one in caplog.records if one.name == "buildset_registry.upstream"]
    assert any(line.startswith(f"HEAD {storage.url}/b 200 ") for line in ours)
    assert "secret" not in "".join(ours)


async def test_redirects_are_followed_five_times(quay: Server, connect: Connect) -> None:
    """A circle is an error."""
    quay.on(V1_PATH, redirect(V1_PATH))
    with pytest.raises(UpstreamFailed, match="redirects more than 5 times"):
        await connect().manifest(NAME, V1)


async def test_a_redirect_without_a_location_is_an_answer(quay: Server, connect: Connect) -> None:
    """It is an answer like any other that does not help."""
    quay.on(V1_PATH, reply(302))
    with pytest.raises(UpstreamFailed, match="answers 302"):
        await connect().manifest(NAME, V1)


async def test_a_redirect_out_of_tls_is_refused(quay: Server, connect: Connect) -> None:
    """Content could be read on its way."""
    async with serving() as plain:
        quay.on(V1_PATH, redirect(f"{plain.url}/x"))
        with pytest.raises(UpstreamFailed, match="which is without TLS; this is refused"):
            await connect().manifest(NAME, V1)
        assert plain.asked == []


@pytest.mark.parametrize("place", ["https://[::1]x/", "https://a..b/"])
async def test_a_redirect_to_what_is_no_host_is_one_line(
    quay: Server, connect: Connect, place: str
) -> None:
    """Some of that only the library that sends the request finds out."""
    quay.on(V1_PATH, redirect(place))
    with pytest.raises(UpstreamFailed, match="its URL has no valid host name"):
        await connect().manifest(NAME, V1)


async def test_storage_that_cannot_be_reached_is_named(quay: Server, connect: Connect) -> None:
    """It is not the registry that fails."""
    quay.on(V1_PATH, redirect("https://127.0.0.2:1/x"))
    with pytest.raises(
        UpstreamFailed, match=r"upstream quay\.io .*127\.0\.0\.2:1: connection refus"
    ):
        await connect().manifest(NAME, V1)


async def test_a_name_of_a_link_local_address_is_refused(
    quay: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redirect by name leads to a cloud's metadata no more than one by address."""

    def resolve(host: str, port: int, *args: Any, **kwargs: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port))]

    client = connect()
    quay.on(V1_PATH, redirect("https://metadata.example/x"))
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(UpstreamFailed, match="is a link-local address; this is refused"):
        await client.manifest(NAME, V1)


async def test_a_host_name_that_is_too_long_is_one_line(connect: Connect) -> None:
    """One line says so."""
    with pytest.raises(UpstreamFailed, match="its URL has no valid host name"):
        await connect(url=f"https://{'a' * 64}.example").manifest(NAME, V1)


async def test_a_proxy_of_the_environment_is_used(quay: Server, connect: Connect) -> None:
    """HTTPS_PROXY leads to the registry; its credentials are for the proxy."""
    quay.on(V1_PATH, manifest())
    proxy = ConnectProxy()
    async with proxy.serving() as address:
        url = f"https://registry.example:{quay.port}"
        client = connect({"HTTPS_PROXY": f"http://me:word@{address}"}, url=url)
        assert (await client.manifest(NAME, V1)).raw == MANIFEST
        await client.close()
    (head,) = proxy.asked
    assert head[0] == f"CONNECT registry.example:{quay.port} HTTP/1.1"
    credentials = base64.b64encode(b"me:word").decode()
    assert f"Proxy-Authorization: Basic {credentials}" in head
    assert all("Proxy-Authorization" not in asked.headers for asked in quay.asked)


async def test_a_proxy_for_plain_http_gets_the_whole_url(connect: Connect) -> None:
    """HTTP_PROXY is asked for the whole URL (RFC 9112, 3.2.2)."""
    async with serving() as proxy:
        proxy.on(V1_PATH, manifest())
        environment = {"http_proxy": proxy.url, "https_proxy": "http://127.0.0.1:1"}
        client = connect(environment, url="http://registry.example:8080", ca=None)
        assert (await client.manifest(NAME, V1)).raw == MANIFEST
        assert [asked.headers["Host"] for asked in proxy.asked] == ["registry.example:8080"]
        await client.close()


async def test_a_host_in_no_proxy_is_reached_directly(quay: Server, connect: Connect) -> None:
    """NO_PROXY leads there directly."""
    quay.on(V1_PATH, manifest())
    proxy = ConnectProxy()
    async with proxy.serving() as address:
        environment = {"HTTPS_PROXY": f"http://{address}", "NO_PROXY": "localhost"}
        client = connect(environment, url=f"https://localhost:{quay.port}")
        assert (await client.manifest(NAME, V1)).raw == MANIFEST
        await client.close()
    assert proxy.asked == []


async def test_a_proxy_that_refuses_is_named(quay: Server, connect: Connect) -> None:
    """It is named as what refuses."""
    proxy = ConnectProxy()
    proxy.refusal = b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n"
    async with proxy.serving() as address:
        client = connect({"HTTPS_PROXY": f"http://{address}"}, url="https://registry.example")
        with pytest.raises(UpstreamFailed, match="the proxy refuses to connect: 407 Who are you"):
            await client.manifest(NAME, V1)
        await client.close()


async def test_a_proxy_that_is_not_there_is_named(connect: Connect) -> None:
    """It is named, not the registry."""
    client = connect({"HTTPS_PROXY": "http://127.0.0.1:1"}, url="https://registry.example")
    with pytest.raises(UpstreamFailed, match=r"the proxy 127\.0\.0\.1:1: connection refused"):
        await client.manifest(NAME, V1)


async def test_a_server_that_does_not_speak_tls_is_told_apart(connect: Connect) -> None:
    """The cure is told."""
    async with serving() as plain:
        url = plain.url.replace("http:", "https:")
        with pytest.raises(UpstreamFailed, match="does not speak TLS; if that is right, set its"):
            await connect(url=url).manifest(NAME, V1)


async def test_a_server_that_wants_our_certificate_ends_the_connection(
    authority: CA, connect: Connect
) -> None:
    """It ends the connection without a word, as far as a client sees; that is told."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(context) as server:
        with pytest.raises(UpstreamFailed, match="ends the connection before it answers"):
            await connect(url=server.url).manifest(NAME, V1)


@contextlib.asynccontextmanager
async def saying(words: bytes) -> AsyncIterator[int]:
    """Answer whatever comes by ``words``; yields the port."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(words)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_a_server_with_no_cipher_in_common_fails_by_tls(connect: Connect) -> None:
    """OpenSSL's own word for what is wrong is told."""
    # A record of the type alert, 2 bytes: fatal, handshake_failure (RFC 5246, 7.2).
    async with saying(b"\x15\x03\x03\x00\x02\x02\x28") as port:
        with pytest.raises(UpstreamFailed, match=r"TLS failed \(.*HANDSHAKE_FAILURE\)"):
            await connect(url=f"https://127.0.0.1:{port}").manifest(NAME, V1)


async def test_a_server_that_does_not_speak_http_is_one_line(connect: Connect) -> None:
    """One line says so."""
    async with saying(b"SSH-2.0-hello\r\n\r\n") as port:
        with pytest.raises(UpstreamFailed, match="answers with something that is not HTTP"):
            await connect(url=f"http://127.0.0.1:{port}", ca=None).manifest(NAME, V1)


async def test_a_server_that_takes_no_connection_is_given_up(connect: Connect) -> None:
    """The time for a connection, TLS included, is limited."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        client = connect(url=url, timeouts=Timeouts(connect=0.2))
        with pytest.raises(UpstreamFailed, match=r"no connection within 0\.2 s"):
            await client.manifest(NAME, V1)


async def test_a_certificate_of_an_unknown_authority_is_refused(
    quay: Server, connect: Connect
) -> None:
    """The cure is told; nothing is sent before."""
    with pytest.raises(UpstreamFailed, match="certificate is not trusted; set its ca"):
        await connect(ca=None).manifest(NAME, V1)
    assert quay.asked == []


async def test_a_certificate_for_another_name_is_refused(authority: CA, connect: Connect) -> None:
    """By name and by address."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("other.example").configure_cert(context)
    async with serving(context) as server:
        for host, message in (("127.0.0.1", "another address"), ("localhost", "another host name")):
            client = connect(url=f"https://{host}:{server.port}")
            with pytest.raises(UpstreamFailed, match=f"certificate is for {message}"):
                await client.manifest(NAME, V1)


async def test_a_certificate_that_has_expired_is_refused(authority: CA, connect: Connect) -> None:
    """The cure is told."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    authority.issue_cert("127.0.0.1", not_after=past).configure_cert(context)
    async with serving(context) as server:
        with pytest.raises(UpstreamFailed, match="certificate has expired"):
            await connect(url=server.url).manifest(NAME, V1)


async def test_the_ca_of_an_upstream_is_for_that_upstream_alone(
    quay: Server, storage: Server, connect: Connect, ca: Path
) -> None:
    """At the upstream it stands instead of the system's, elsewhere beside them."""
    other = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    other.issue_cert("127.0.0.1", "127.0.0.2").configure_cert(context)
    quay.on(V1_PATH, redirect(f"{storage.url}/m"))
    storage.on("/m", manifest())
    assert (await connect().manifest(NAME, V1)).raw == MANIFEST
    async with serving(context) as foreign:
        with pytest.raises(UpstreamFailed, match="certificate is not trusted"):
            await connect(url=foreign.url).manifest(NAME, V1)


async def test_an_answer_that_takes_too_long_is_given_up(quay: Server, connect: Connect) -> None:
    """The time for the next bytes is limited."""
    quay.on(V1_PATH, slow(5))
    with pytest.raises(UpstreamFailed, match=r"no data for 0\.2 s"):
        await connect(timeouts=Timeouts(read=0.2)).manifest(NAME, V1)


def dripping(*, head: bool) -> Answer:
    """Send one byte after the other of a manifest, or of the head of an answer, without end."""

    async def answer(request: BaseRequest) -> StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000000"})
        if not head:
            await response.prepare(request)
        assert request.transport
        request.transport.write(b"HTTP/1.1 200 OK\r\nX-Long: " if head else b"{")
        while not request.transport.is_closing():
            request.transport.write(b"x")
            await asyncio.sleep(0.05)
        return response

    return answer


@pytest.mark.parametrize(
    ("head", "reason"),
    [(True, "no answer within 0.3 s"), (False, "not sent all of a document within 0.3 s")],
)
async def test_a_document_that_drips_is_given_up(
    quay: Server, connect: Connect, *, head: bool, reason: str
) -> None:
    """All who ask for an image wait together: they would wait for as long as it drips."""
    quay.on(V1_PATH, dripping(head=head))
    with pytest.raises(UpstreamFailed, match=reason):
        await connect(timeouts=Timeouts(document=0.3)).manifest(NAME, V1)


async def test_a_blob_may_take_any_time(quay: Server, connect: Connect) -> None:
    """Only what is read whole has a bound."""
    gate = asyncio.Event()
    quay.on(BLOB_PATH, halting(gate, BLOB, 100))
    async with connect(timeouts=Timeouts(document=0.1)).blob(NAME, BLOB_DIGEST) as remote:
        await asyncio.sleep(0.2)
        gate.set()
        assert b"".join([chunk async for chunk in remote.chunks]) == BLOB


async def test_a_body_of_no_interest_keeps_the_connection(
    quay: Server, transport: Transport, ca: Path
) -> None:
    """Unless it is large: then another connection costs less."""
    quay.on("/small", reply(200, b"x"))
    quay.on("/large", reply(200, b"x" * 1024 * 1024))
    for path in ("/small", "/large", "/small"):
        response = await transport.send(UpstreamRequest("GET", f"{quay.url}{path}", {}, ca))
        await response.discard()
    assert len(quay.asked) == 3


async def test_no_cookie_is_kept(quay: Server, transport: Transport, ca: Path) -> None:
    """A registry learns nothing of earlier requests."""
    quay.on("/x", reply(200, b"x", Set_Cookie="me=1; Path=/"))
    for _ in range(2):
        await (await transport.send(UpstreamRequest("GET", f"{quay.url}/x", {}, ca))).discard()
    assert all("Cookie" not in asked.headers for asked in quay.asked)


async def test_content_is_not_decompressed(quay: Server, transport: Transport, ca: Path) -> None:
    """It is what its digest says."""
    quay.on("/x", reply(200, b"\x1f\x8b not gzip", Content_Encoding="gzip"))
    response = await transport.send(UpstreamRequest("GET", f"{quay.url}/x", {}, ca))
    assert await response.piece() == b"\x1f\x8b not gzip"


async def test_a_body_is_read_up_to_a_limit(quay: Server, transport: Transport, ca: Path) -> None:
    """More is refused without being read."""
    quay.on("/x", reply(200, b"x" * 5000))
    response = await transport.send(UpstreamRequest("GET", f"{quay.url}/x", {}, ca))
    with pytest.raises(UpstreamError, match="sends more than 4 KiB"):
        await response.read(4096)
    response.close()
