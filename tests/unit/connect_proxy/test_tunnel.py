# SPDX-License-Identifier: Apache-2.0
"""Two connections made one, over real sockets: order, ends, back-pressure, idleness."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from buildset_registry.connect_proxy.tunnel import BUFFER, Connection, Tunnel

CONTENT = hashlib.shake_256(b"content").digest(4 * 1024 * 1024)
HOST = "127.0.0.1"
#: More than kernels keep of connections, however large their buffers.
KERNEL = 256 * 1024 * 1024

Talk = Callable[[Connection], Awaitable[None]]


@asynccontextmanager
async def serving(talk: Talk) -> AsyncIterator[int]:
    """Serve each connection by a function; yields the port."""
    tasks: set[asyncio.Task[None]] = set()

    async def work(stream: Connection) -> None:
        try:
            await talk(stream)
        finally:
            stream.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(work(Connection(reader, writer))))

    server = await asyncio.start_server(accept, HOST, 0, limit=BUFFER)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def connect(port: int) -> Connection:
    """Connect to a port."""
    return Connection(*await asyncio.open_connection(HOST, port, limit=BUFFER))


class Pipe:
    """A tunnel to a server, and the client's connection to it."""

    def __init__(self, idle: float = 60) -> None:
        self.idle = idle
        self.tunnel: Tunnel
        self.ended = asyncio.Event()

    @asynccontextmanager
    async def to(self, talk: Talk) -> AsyncIterator[Connection]:
        """Open it to a server that talks like this."""
        async with serving(talk) as port:

            async def join(client: Connection) -> None:
                self.tunnel = Tunnel(client, await connect(port))
                await self.tunnel.run(self.idle)
                self.ended.set()

            async with serving(join) as entrance:
                client = await connect(entrance)
                try:
                    yield client
                finally:
                    client.abort()


async def echo(stream: Connection) -> None:
    """Send back what comes."""
    async for piece in stream.pieces():
        await stream.send(piece)
    stream.writer.write_eof()
    await stream.close()


async def test_what_is_sent_arrives_and_one_side_may_end_first() -> None:
    """A client that has said all gets the rest of the answer."""
    pipe = Pipe()
    async with pipe.to(echo) as client:

        async def say() -> None:
            await client.send(CONTENT)
            client.writer.write_eof()

        saying = asyncio.create_task(say())
        assert await client.reader.read(-1) == CONTENT
        await saying
        await asyncio.wait_for(pipe.ended.wait(), 60)
    assert pipe.tunnel.sent == pipe.tunnel.received == len(CONTENT)


async def test_a_slow_reader_holds_the_sender_up() -> None:
    """What one side does not take is not read from the other, and not kept in memory."""
    sent = 0
    stuck = asyncio.Event()

    async def pour(stream: Connection) -> None:
        nonlocal sent
        while sent < KERNEL:
            try:
                await asyncio.wait_for(stream.send(CONTENT[:BUFFER]), 0.5)
            except asyncio.TimeoutError:
                stuck.set()
                await asyncio.Event().wait()
            sent += BUFFER

    pipe = Pipe()
    async with pipe.to(pour):
        await asyncio.wait_for(stuck.wait(), 60)
        assert pipe.tunnel.sent < sent < KERNEL


async def test_a_tunnel_ends_when_nothing_moves() -> None:
    """Both sides see the end."""
    ended = asyncio.Event()

    async def listen(stream: Connection) -> None:
        with contextlib.suppress(ConnectionError):
            await stream.reader.read(1)
        ended.set()

    pipe = Pipe(idle=0.1)
    async with pipe.to(listen) as client:
        assert await client.reader.read(1) == b""
        await asyncio.wait_for(ended.wait(), 60)
        await asyncio.wait_for(pipe.ended.wait(), 60)


async def test_a_client_that_breaks_off_ends_the_servers_side() -> None:
    """As it would without a tunnel."""
    ended = asyncio.Event()

    async def pour(stream: Connection) -> None:
        try:
            while True:
                await stream.send(CONTENT)
        except ConnectionError:
            ended.set()

    pipe = Pipe()
    async with pipe.to(pour) as client:
        await client.reader.readexactly(1000)
        client.abort()
        await asyncio.wait_for(ended.wait(), 60)
        await asyncio.wait_for(pipe.ended.wait(), 60)
