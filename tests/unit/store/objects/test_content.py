# SPDX-License-Identifier: Apache-2.0
"""Content from a service: whole and in few pieces, whatever the service and the client do."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
import uvloop
from buildset_registry.store.objects.connection import (
    ServiceAnswer,
    ServiceConnection,
    ServiceRequest,
    streamed,
)
from buildset_registry.store.objects.content import ContentStream, PieceSizes
from buildset_registry.store.objects.dialect import ObjectFailure
from buildset_registry.store.objects.failures import Patience
from trustme import CA

from tests.unit.store.objects.test_connection import Nobody

MIB = 1024 * 1024
CONTENT = os.urandom(5 * MIB + 321)


@dataclass
class Service:
    """A service with one object, which it sends as a test wants it."""

    send: Callable[[asyncio.StreamWriter, bytes], Awaitable[None]] | None = None
    chunked: bool = False
    url: str = ""
    held: list[asyncio.StreamWriter] = field(default_factory=list)
    """The server's ends of all connections that were made."""

    asked: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.held.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.decode(), writer)
        except (OSError, EOFError):
            writer.transport.abort()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> None:
        where = next((line for line in head.splitlines() if line.startswith("Range: ")), "")
        self.asked.append(where)
        start = int(where.partition("=")[2].rstrip("-") or 0)
        content = CONTENT[start:]
        writer.write(b"HTTP/1.1 206 Partial Content\r\n")
        if self.chunked:
            framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
            writer.write(b"Transfer-Encoding: chunked\r\n\r\n" + framed)
        else:
            writer.write(b"Content-Length: %d\r\n\r\n" % len(content))
            if self.send is not None and len(self.asked) == 1:
                await self.send(writer, content)
            else:
                writer.write(content)
        await writer.drain()


@asynccontextmanager
async def running(service: Service, tls: ssl.SSLContext | None = None) -> AsyncIterator[Service]:
    """Let a service answer."""
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    service.url = f"http{'s' if tls else ''}://127.0.0.1:{port}/object"
    try:
        yield service
    finally:
        server.close()
        for writer in service.held:
            writer.transport.abort()


async def ask(connection: ServiceConnection, url: str, start: int = 0) -> ServiceAnswer:
    """Ask for the object from a byte on."""
    headers = {"Range": f"bytes={start}-"}
    return await connection.ask(ServiceRequest("GET", url, headers, streamed=True))


async def pieces_of(connection: ServiceConnection, url: str) -> list[bytes]:
    """Read the object."""
    again = partial(ask, connection, url)
    opened = streamed(await again(0), 0, len(CONTENT), again)
    return [piece async for piece in opened]


async def read_twice(tls: bool, *, chunked: bool = False) -> tuple[list[bytes], Service]:
    """Read the object, and once more on the same connections."""
    authority, server, trust = CA(), None, ssl.create_default_context()
    if tls:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(server)
        authority.configure_trust(trust)
    async with (
        running(Service(chunked=chunked), server) as service,
        aclosing(ServiceConnection(Nobody(), trust)) as connection,
    ):
        first = await pieces_of(connection, service.url)
        assert b"".join(await pieces_of(connection, service.url)) == CONTENT
        return first, service


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_long_object_comes_in_large_pieces_and_its_connection_is_kept(
    run: Callable[..., tuple[list[bytes], Service]], tls: bool
) -> None:
    pieces, service = run(read_twice(tls))
    assert b"".join(pieces) == CONTENT
    assert {type(piece) for piece in pieces} == {bytes}
    assert MIB >= max(map(len, pieces)) > MIB // 4  # as the network has them, they are smaller
    assert len(service.held) == 1


async def test_an_object_of_no_told_length_arrives() -> None:
    pieces, service = await read_twice(tls=False, chunked=True)
    assert b"".join(pieces) == CONTENT
    assert len(service.held) == 1


async def test_what_breaks_off_goes_on_from_there() -> None:
    async def breaking(writer: asyncio.StreamWriter, content: bytes) -> None:
        writer.write(content[: 3 * MIB])
        await writer.drain()
        raise EOFError

    async with (
        running(Service(breaking)) as service,
        aclosing(ServiceConnection(Nobody(), tls=True)) as connection,
    ):
        assert b"".join(await pieces_of(connection, service.url)) == CONTENT
        assert len(service.asked) == len(service.held) == 2
        assert service.asked[1] != service.asked[0]


async def test_what_stalls_is_asked_for_again() -> None:
    async def stalling(writer: asyncio.StreamWriter, content: bytes) -> None:
        writer.write(content[: 3 * MIB])
        await asyncio.Event().wait()

    patience = Patience(read=0.3, tries=1)
    async with (
        running(Service(stalling)) as service,
        aclosing(ServiceConnection(Nobody(), tls=True, patience=patience)) as connection,
    ):
        read = pieces_of(connection, service.url)
        assert b"".join(await asyncio.wait_for(read, 60)) == CONTENT
        assert service.asked[1] == f"Range: bytes={3 * MIB}-"


async def test_what_comes_slowly_is_handed_on_before_there_is_much_of_it() -> None:
    read = asyncio.Event()

    async def trickling(writer: asyncio.StreamWriter, content: bytes) -> None:
        writer.write(content[:1000])
        await read.wait()
        writer.write(content[1000:1003])
        read.clear()
        await read.wait()
        writer.write(content[1003:])

    async with (
        running(Service(trickling)) as service,
        aclosing(ServiceConnection(Nobody(), tls=True)) as connection,
    ):
        again = partial(ask, connection, service.url)
        async with aclosing(streamed(await again(0), 0, len(CONTENT), again)) as opened:
            got = b""
            async for piece in opened:
                got += piece
                if len(got) in (1000, 1003):
                    read.set()
        assert got == CONTENT
        assert len(service.asked) == 1


async def test_what_nobody_reads_stays_with_the_service() -> None:
    """No more is taken than a piece, and what the kernel has room for."""
    sent: list[int] = []

    async def endless(writer: asyncio.StreamWriter, content: bytes) -> None:
        while True:
            writer.write(content[:MIB])
            await writer.drain()
            sent.append(MIB)

    async with (
        running(Service(endless)) as service,
        aclosing(ServiceConnection(Nobody(), tls=True)) as connection,
    ):
        again = partial(ask, connection, service.url)
        async with aclosing(streamed(await again(0), 0, len(CONTENT), again)) as opened:
            await anext(opened)
            before = -1
            while before != len(sent):
                before = len(sent)
                await asyncio.sleep(0.1)
        assert sum(sent) < len(CONTENT) + 16 * MIB


async def test_a_reader_that_leaves_ends_the_connection_and_no_other_reads_its_rest() -> None:
    async with (
        running(Service()) as service,
        aclosing(ServiceConnection(Nobody(), tls=True)) as connection,
    ):
        again = partial(ask, connection, service.url)
        async with aclosing(streamed(await again(0), 0, len(CONTENT), again)) as opened:
            await anext(opened)
            left = asyncio.ensure_future(anext(opened))
            await asyncio.sleep(0)
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)
        assert b"".join(await pieces_of(connection, service.url)) == CONTENT
        assert len(service.held) == 2


async def test_what_never_comes_whole_is_given_up() -> None:
    async def nothing(self: Service, head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\n\r\n" % len(CONTENT))
        await writer.drain()
        raise EOFError

    class Empty(Service):
        _answer = nothing

    async with (
        running(Empty()) as service,
        aclosing(ServiceConnection(Nobody(), tls=True)) as connection,
    ):
        with pytest.raises(ObjectFailure, match="less than it has"):
            await pieces_of(connection, service.url)
        assert len(service.held) == 4


def test_many_downloads_have_smaller_pieces() -> None:
    class Stream(ContentStream):
        def __init__(self) -> None:
            sizes.add(self)

    sizes = PieceSizes()
    assert sizes.size == MIB
    streams = [Stream() for _ in range(20)]
    assert sizes.size == 8 * MIB // 20
    streams += [Stream() for _ in range(1000)]
    assert sizes.size == 64 * 1024
    sizes.remove(streams[0])
    streams.clear()
    assert sizes.size == MIB
