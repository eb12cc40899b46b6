# SPDX-License-Identifier: Apache-2.0
"""Several ranges in one answer: ``multipart/byteranges`` (RFC 9110, section 14.6).

Clients of zstd:chunked and eStargz layers fetch the files that they lack this way; they count the
parts, so each range that was asked for is one part, in the order of the request.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from buildset_registry.http.ranges import Span, content_range
from buildset_registry.http.response import Stream

#: Read the content from an offset up to another.
Read = Callable[[int, int], AsyncGenerator[bytes]]


def byteranges(spans: Sequence[Span], size: int, media_type: str, read: Read) -> tuple[str, Stream]:
    """Return the Content-Type and the body of an answer that has a part for each span."""
    boundary = uuid.uuid4().hex
    heads = [
        f"\r\n--{boundary}\r\nContent-Type: {media_type}\r\n"
        f"Content-Range: {content_range(start, end, size)}\r\n\r\n".encode()
        for start, end in spans
    ]
    close = f"\r\n--{boundary}--\r\n".encode()

    async def chunks() -> AsyncGenerator[bytes]:
        for head, (start, end) in zip(heads, spans, strict=True):
            yield head
            async with aclosing(read(start, end)) as pieces:
                async for piece in pieces:
                    yield piece
        yield close

    length = sum(map(len, heads)) + sum(end - start for start, end in spans) + len(close)
    return f"multipart/byteranges; boundary={boundary}", Stream(length, chunks())
