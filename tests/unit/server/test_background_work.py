# SPDX-License-Identifier: Apache-2.0
"""What a server does beside its requests has ended when what it uses is closed."""

import asyncio
from contextlib import AsyncExitStack

from buildset_registry.server.serve import Listening


async def test_it_has_ended_before_what_it_uses_is_closed() -> None:
    """A look that is under way is not left alone."""
    ended: list[str] = []

    async def look() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ended.append("look")

    async with AsyncExitStack() as stack:
        stack.callback(lambda: ended.append("closed"))
        listening = object.__new__(Listening)
        listening._stack = stack
        listening._in_background("the look", look)
        await asyncio.sleep(0.01)
    assert ended == ["look", "closed"]
