# SPDX-License-Identifier: Apache-2.0
"""Content that a service sends: in large pieces, each received straight into its place.

Each piece that is handed on to a client wakes three threads in turn, so few large ones cost less
than many small ones. aiohttp's reader has what it hands out in pieces of the network's making, each
copied three times. So what is long is received by a protocol of our own, and the connection goes
back to aiohttp when all of it is there: the next request is sent on it.
"""

from __future__ import annotations

import asyncio
import weakref
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp

#: Bytes of the pieces of all downloads of a process, and of each one.
_TOGETHER = 8 * 1024 * 1024
_LEAST, _MOST = 64 * 1024, 1024 * 1024
#: Bytes up to which what is left is not worth another protocol.
_SHORT = 256 * 1024
#: Seconds after which a piece is handed on that is not full: a client is to notice no slow service.
_GATHERING_SECONDS = 0.05


class PieceSizes:
    """The sizes of pieces: the more downloads run, the smaller."""

    def __init__(self) -> None:
        self._running: weakref.WeakSet[ContentStream] = weakref.WeakSet()

    def add(self, stream: ContentStream) -> None:
        """Count a download, as long as it runs."""
        self._running.add(stream)

    def remove(self, stream: ContentStream) -> None:
        """Count it no longer."""
        self._running.discard(stream)

    @property
    def size(self) -> int:
        """Bytes of the next piece of each."""
        return max(_LEAST, min(_MOST, _TOGETHER // max(1, len(self._running))))


class ContentStream:
    """The body of an answer, to be read to its end or closed."""

    def __init__(self, answer: aiohttp.ClientResponse, sizes: PieceSizes, patience: float) -> None:
        self._answer = answer
        self._sizes = sizes
        self._head = b""
        self._receiver = self._taken_over(patience)
        sizes.add(self)

    async def read(self, most: int) -> bytes:
        """Return a piece of at most so many bytes; nothing at the end, or where it broke off."""
        if self._head:
            piece, self._head = self._head[:most], self._head[most:]
            return piece
        if self._receiver is None:
            return await self._answer.content.read(min(most, _SHORT))
        piece = await self._receiver.read(min(most, self._sizes.size))
        if not self._receiver.left:
            self._give_back()
        return piece

    def close(self) -> None:
        """Be done with it; a connection on which more would come is of no use any more."""
        self._sizes.remove(self)
        self._answer.close()

    def _taken_over(self, patience: float) -> _Receiver | None:
        """Receive the rest here; None where it is short, of no known length, or aiohttp keeps some
        of it back."""
        answer, connection = self._answer, self._answer.connection
        length, content = answer.content_length, answer.content
        if connection is None or length is None or "Transfer-Encoding" in answer.headers:
            return None
        transport, handler = connection.transport, connection.protocol
        if transport is None or handler is None:
            return None
        # Each look may have more come in that aiohttp had no room for.
        self._head = b"".join(iter(content.read_nowait, b""))
        left = length - len(self._head)
        if left <= _SHORT or content.total_bytes != length - left or not transport.is_reading():
            return None
        handler.pause_reading()  # which ends its time-out, too
        receiver = _Receiver(transport, handler, left, patience)
        transport.set_protocol(receiver)
        return receiver

    def _give_back(self) -> None:
        """Let aiohttp use the connection again."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None and receiver.give_back():
            self._answer.content.feed_eof()


class _Receiver(asyncio.BufferedProtocol):
    """Receives so many bytes, in pieces that are asked for one after the other."""

    def __init__(
        self,
        transport: asyncio.Transport,
        handler: aiohttp.client_proto.ResponseHandler,
        left: int,
        patience: float,
    ) -> None:
        self.left = left
        self._transport = transport
        self._handler = handler
        self._patience = patience
        self._lost = False
        self._view = memoryview(b"")
        self._filled = 0
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0

    async def read(self, most: int) -> bytes:
        """Return what arrives within a moment, or at last; nothing where the connection ended."""
        # Its memory is that of the bytes it returns: nothing is copied.
        piece = BytesIO(bytes(min(most, self.left)))
        self._view, self._filled = piece.getbuffer(), 0
        try:
            if not self._lost:
                await self._fill()
        finally:
            self._view.release()
        piece.truncate(self._filled)
        self.left -= self._filled
        return piece.getvalue()

    async def _fill(self) -> None:
        self._arrived = arrived = self._loop.create_future()
        self._until = self._loop.time() + self._patience
        self._timer = self._loop.call_later(_GATHERING_SECONDS, self._look)
        self._transport.resume_reading()
        try:
            await arrived
        finally:
            self._finish()

    def _look(self) -> None:
        """Take the piece as it is, if there is any of it, or wait on."""
        if self._filled or self._loop.time() >= self._until:
            self._finish()
        else:
            self._timer = self._loop.call_later(_GATHERING_SECONDS, self._look)

    def give_back(self) -> bool:
        """Let aiohttp receive what comes next, if anything can."""
        if self._lost or self._transport.is_closing():
            return False
        self._transport.set_protocol(self._handler)
        self._handler.resume_reading()
        return True

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled == len(self._view):
            self._finish()

    def eof_received(self) -> None:
        """Let the connection be closed."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._finish()
        self._handler.connection_lost(exc)

    def _finish(self) -> None:
        """Receive no more for now."""
        if self._arrived is None:
            return
        if not self._arrived.done():
            self._arrived.set_result(None)
        self._arrived = None
        if self._timer is not None:
            self._timer.cancel()
        if not (self._lost or self._transport.is_closing()):
            self._transport.pause_reading()
