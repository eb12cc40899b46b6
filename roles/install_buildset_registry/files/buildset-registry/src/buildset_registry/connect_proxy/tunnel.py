# SPDX-License-Identifier: Apache-2.0
"""Tunnels: two connections made one; bytes go no faster than the slower side takes them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

#: What a connection may hold of bytes that have arrived and are not read yet; asyncio stops
#: reading at twice as many.
BUFFER = 128 * 1024


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield what arrives until the other side has ended."""
        while piece := await self.reader.read(2 * BUFFER):
            yield piece

    async def send(self, content: bytes) -> None:
        """Send, and wait until the other side has taken most of it."""
        self.writer.write(content)
        await self.writer.drain()

    @property
    def has_halves(self) -> bool:
        """Tell whether one direction can end before the other: TCP's can, asyncio's TLS not."""
        return self.writer.can_write_eof()

    async def close(self) -> None:
        """End the connection when all was sent."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def abort(self) -> None:
        """End the connection at once; what was not sent is lost."""
        self.writer.transport.abort()


class Tunnel:
    """A client joined with a server; ``sent`` and ``received`` count what goes to and from it."""

    def __init__(self, client: Connection, server: Connection) -> None:
        self._client = client
        self._server = server
        self._moved = False
        self.sent = 0
        self.received = 0

    async def run(self, idle: float) -> None:
        """Copy until both sides have ended, one has broken, or nothing moved for ``idle`` s."""
        copies = asyncio.gather(self._to_server(), self._to_client())
        watch = asyncio.create_task(self._watch(idle))
        try:
            with contextlib.suppress(OSError):
                await copies
                await self._server.close()
                await self._client.close()
        finally:
            watch.cancel()
            copies.cancel()
            self._abort()

    async def _to_server(self) -> None:
        async for piece in self._client.pieces():
            await self._server.send(piece)
            self.received += len(piece)
            self._moved = True
        self._end(self._client, self._server)

    async def _to_client(self) -> None:
        async for piece in self._server.pieces():
            await self._client.send(piece)
            self.sent += len(piece)
            self._moved = True
        self._end(self._server, self._client)

    async def _watch(self, idle: float) -> None:
        """Break the connections off when nothing has moved between two looks."""
        while True:
            self._moved = False
            await asyncio.sleep(idle)
            if not self._moved:
                self._abort()

    def _end(self, ended: Connection, other: Connection) -> None:
        """Pass on that one side sends no more; the other may go on where both can be half open."""
        if ended.has_halves and other.has_halves:
            other.writer.write_eof()
        elif ended is self._client:
            self._abort()
        else:
            other.writer.close()

    def _abort(self) -> None:
        self._client.abort()
        self._server.abort()
