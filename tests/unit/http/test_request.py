# SPDX-License-Identifier: Apache-2.0
"""The body of a request: asked for piece by piece, one ahead of what is being used."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from buildset_registry.errors import RequestTimeout
from buildset_registry.http.asgi import ClientLeft, Message, Scope
from buildset_registry.http.request import Request

SCOPE: Scope = {"method": "PATCH", "path": "/", "headers": [(b"transfer-encoding", b"chunked")]}
LEFT: Message = {"type": "http.disconnect"}


def piece(content: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": content, "more_body": more}


class Server:
    """What a server does: a message is on its way as soon as it is asked for."""

    def __init__(self, *messages: Message) -> None:
        self._messages = list(messages)
        self.asked = 0

    def receive(self) -> asyncio.Future[Message]:
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        if self.asked < len(self._messages):
            future.set_result(self._messages[self.asked])
        self.asked += 1
        return future


async def test_the_next_piece_is_asked_for_before_one_is_used() -> None:
    server = Server(piece(b"ab"), piece(b"cd"), piece(b"ef"), piece(b"", more=False))
    asked = [(chunk, server.asked) async for chunk in Request(SCOPE, server.receive).body()]
    assert asked == [(b"ab", 2), (b"cd", 3), (b"ef", 4)]
    assert server.asked == 4


async def test_nothing_is_asked_for_after_the_end() -> None:
    server = Server(piece(b"ab", more=False))
    request = Request(SCOPE, server.receive)
    assert await request.read(10) == b"ab"
    assert (server.asked, request.unread) == (1, False)


async def test_a_body_of_no_length_is_not_asked_for() -> None:
    """There is nothing to wait for, before the answer or after it."""
    scope = {**SCOPE, "headers": [(b"content-length", b"0")]}
    server = Server(piece(b"", more=False))
    request = Request(scope, server.receive)
    assert await request.read(10) == b""
    assert (server.asked, request.unread) == (0, False)


async def test_what_was_asked_for_is_not_lost_when_the_body_is_given_up() -> None:
    server = Server(piece(b"ab"), piece(b"cd"), piece(b"ef", more=False))
    request = Request(SCOPE, server.receive)
    assert await request.read(1) is None
    assert request.unread
    await request.discard()
    assert (server.asked, request.unread) == (3, False)


async def test_the_end_of_a_client_is_told_after_what_it_has_sent() -> None:
    server = Server(piece(b"ab"), LEFT)
    chunks = []
    with pytest.raises(ClientLeft):
        async for chunk in Request(SCOPE, server.receive).body():
            chunks.append(chunk)
    assert chunks == [b"ab"]


async def test_a_piece_that_does_not_come_is_waited_for_so_many_seconds_only() -> None:
    request = Request(SCOPE, Server(piece(b"ab")).receive, body_seconds=0.01)
    with pytest.raises(RequestTimeout):
        await request.read(10)


class TinyChunks:
    """A client that sends so many chunks of two bytes, and then nothing."""

    def __init__(self, number: int) -> None:
        self._left = number

    def receive(self) -> asyncio.Future[Message]:
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        if self._left:
            self._left -= 1
            future.set_result(piece(b"%02d" % (self._left % 100)))  # each an object of its own
        return future


async def test_a_body_of_tiny_chunks_takes_little_more_than_its_size() -> None:
    """A client chooses how small they are (RFC 9112, section 7.1)."""
    number = 10_000
    task = asyncio.ensure_future(Request(SCOPE, TinyChunks(number).receive).read(2 * number + 1))
    tracemalloc.start()
    try:
        await asyncio.sleep(0)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert not task.done()
    task.cancel()
    assert held < 6 * number


class SlowClient:
    """A client that sends a little every now and then, and the clock by which it does."""

    def __init__(self, pieces: int, size: int, seconds: float) -> None:
        self.now = 0.0
        self._left = pieces
        self._size = size
        self._seconds = seconds

    def monotonic(self) -> float:
        return self.now

    async def receive(self) -> Message:
        self.now += self._seconds
        self._left -= 1
        return piece(bytes(self._size), more=self._left > 0)


async def test_a_body_that_drips_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client is never silent for long."""
    client = SlowClient(1000, 1, 50)
    monkeypatch.setattr("buildset_registry.http.request.time", client)
    request = Request(SCOPE, client.receive, body_seconds=60)
    with pytest.raises(RequestTimeout, match="less than 65536 bytes were received in 600 seconds"):
        await request.read(1000)
    assert request.received == 11
    await request.discard()


async def test_a_body_that_comes_slowly_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kilobyte a second, for an hour."""
    client = SlowClient(3600, 1024, 1)
    monkeypatch.setattr("buildset_registry.http.request.time", client)
    request = Request(SCOPE, client.receive, body_seconds=60)
    assert len(await request.read(2**30) or b"") == 3600 * 1024
