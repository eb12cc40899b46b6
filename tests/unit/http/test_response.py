# SPDX-License-Identifier: Apache-2.0
"""Sending answers."""

from __future__ import annotations

import asyncio
import tracemalloc
import weakref
from collections.abc import AsyncGenerator

import pytest
from buildset_registry.errors import UpstreamFailed
from buildset_registry.http.asgi import ClientLeft, Message
from buildset_registry.http.ranges import ranged_response
from buildset_registry.http.response import Bytes, Response, Stream, begun, send_response
from buildset_registry.store.base import BlobSource


class StalledClient:
    """A client that takes so many pieces of an answer, and then no more."""

    def __init__(self, takes: int) -> None:
        self._takes = takes
        self.pieces: list[bytes] = []
        self.stalled, self.left = asyncio.Event(), asyncio.Event()

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            return
        self.pieces.append(message["body"])
        if len(self.pieces) >= self._takes:
            self.stalled.set()
            if message.get("more_body"):
                await self.left.wait()


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1, 4 * 1024 * 1024])
async def test_a_body_at_hand_comes_whole(size: int) -> None:
    """A large one in pieces, each of which waits for its client."""
    client, content = StalledClient(1000), bytes(bytearray(size))
    response = await begun(Response(200, {}, Bytes(content)))
    assert await send_response(response, client.receive, client.send, head=False) == size
    assert b"".join(client.pieces) == content
    assert max(map(len, client.pieces)) <= 256 * 1024
    assert (len(client.pieces) == 1) == (size <= 256 * 1024)


async def test_head_of_a_large_body_sends_nothing_of_it() -> None:
    client = StalledClient(1000)
    response = await begun(Response(200, {}, Bytes(bytes(10**6))))
    assert await send_response(response, client.receive, client.send, head=True) == 0
    assert client.pieces == [b""]


async def test_clients_that_do_not_read_share_one_copy_of_a_large_body() -> None:
    """Each request reads the manifest anew, and the server holds what it was handed over."""
    size, number = 4 * 1024 * 1024, 20
    clients = [StalledClient(1) for _client in range(number)]

    async def answer(client: StalledClient) -> int:
        response = await begun(Response(200, {}, Bytes(bytes(bytearray(size)))))
        return await send_response(response, client.receive, client.send, head=False)

    tracemalloc.start()
    try:
        answers = [asyncio.ensure_future(answer(client)) for client in clients]
        await asyncio.wait_for(asyncio.gather(*(one.stalled.wait() for one in clients)), 60)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 2 * size
    for client in clients:
        client.left.set()
    ended = await asyncio.gather(*answers, return_exceptions=True)
    assert {type(one) for one in ended} == {ClientLeft}
    assert sum(map(len, clients[0].pieces)) < size // 10


async def test_large_bodies_are_forgotten_when_they_are_sent() -> None:
    """What is shared is what is under way, and nothing else."""
    response = await begun(Response(200, {}, Bytes(bytes(10**6))))
    known = weakref.ref(response.body)
    del response
    assert known() is None


async def test_long_headers_are_not_remembered() -> None:
    """A challenge names the host that the client said, which may be as long as a request's head."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        pass

    tracemalloc.start()
    try:
        for number in range(200):
            response = Response(200, {"WWW-Authenticate": f"{number:0100000}"})
            await send_response(response, receive, send, head=False)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 1_000_000


async def failing(_start: int, _end: int) -> AsyncGenerator[bytes]:
    """Yield a body that fails at once."""
    raise UpstreamFailed
    yield b""


@pytest.mark.parametrize("header", ["", "bytes=1-2", "bytes=1-2,4-5"])
async def test_what_fails_before_a_body_is_refused(header: str) -> None:
    """Whole, in a part or in several: there is a status to say it by."""
    blob = BlobSource(10, failing)
    headers = {"Content-Type": "application/x"}

    def cut(start: int, end: int) -> Stream:
        return Stream(end - start, blob.chunks(start, end))

    with pytest.raises(UpstreamFailed):
        await begun(ranged_response(header, blob, cut, headers))


async def test_a_body_that_began_comes_whole_and_in_order() -> None:
    """The first piece is not lost."""
    sent = []

    async def pieces() -> AsyncGenerator[bytes]:
        for piece in (b"a", b"b", b"c"):
            yield piece

    async def receive() -> Message:
        return await asyncio.Future()

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    response = await begun(Response(200, {}, Stream(3, pieces())))
    assert await send_response(response, receive, send, head=False) == 3
    assert b"".join(sent) == b"abc"
