# SPDX-License-Identifier: Apache-2.0
"""Content on its way into a store, and out of it."""

from collections.abc import AsyncIterator

from buildset_registry.sources import ArrivingBlob
from buildset_registry.store.base import StoredBlob


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def broken(error: Exception, *content: bytes) -> AsyncIterator[bytes]:
    """Yield content, and then fail."""
    for piece in content:
        yield piece
    raise error


async def content_of(blob: StoredBlob | ArrivingBlob) -> bytes:
    """Return all of a blob, wherever it is."""
    return b"".join([piece async for piece in blob.chunks(0, blob.size)])
