# SPDX-License-Identifier: Apache-2.0
"""Content as it arrives at a store."""

from collections.abc import AsyncIterator


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def broken(error: Exception, *content: bytes) -> AsyncIterator[bytes]:
    """Yield content, and then fail."""
    for piece in content:
        yield piece
    raise error
