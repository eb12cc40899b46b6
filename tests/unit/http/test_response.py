# SPDX-License-Identifier: Apache-2.0
"""Sending answers."""

from __future__ import annotations

import tracemalloc

from buildset_registry.http.asgi import Message
from buildset_registry.http.response import Response, send_response


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
