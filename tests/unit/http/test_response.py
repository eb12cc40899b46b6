# SPDX-License-Identifier: Apache-2.0
"""Sending answers."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncGenerator

import pytest
from buildset_registry.errors import UpstreamFailed
from buildset_registry.http.asgi import Message
from buildset_registry.http.ranges import ranged_response
from buildset_registry.http.response import Response, Stream, begun, send_response
from buildset_registry.store.base import BlobSource


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
