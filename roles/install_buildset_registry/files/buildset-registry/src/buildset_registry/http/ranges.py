# SPDX-License-Identifier: Apache-2.0
"""Byte ranges: the ``Range`` of a download (RFC 9110, section 14) and the one of an upload.

An upload's ranges are the distribution specification's: ``<start>-<end>``, both ends included,
without a unit.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from buildset_registry.errors import BlobUploadInvalid, RangeNotSatisfiable
from buildset_registry.http.response import Stream

#: Parts that one request may ask for: as many as containers/storage asks for at most, which
#: fetches the chunks of a zstd:chunked layer that it lacks.
MAX_RANGES = 1024

_UNIT = re.compile(r"\s*bytes\s*=(.*)", re.IGNORECASE)
_ONE_RANGE = re.compile(r"(\d*)-(\d*)", re.ASCII)
_CHUNK = re.compile(r"(?:bytes[ =])?\s*(\d+)-(\d+)(?:/(?:\d+|\*))?", re.IGNORECASE | re.ASCII)
#: More digits than any size has, and few enough for int().
_MAX_DIGITS = 18

Span = tuple[int, int]
"""The bytes from the first number up to the second, which is excluded."""


def parse_ranges(header: str | None, size: int) -> list[Span]:
    """Return the spans asked for in their order; none where the whole content is meant.

    A header that is not understood, or that asks for more than there is, is ignored (RFC 9110,
    14.2). Of several ranges those count that lie inside; where none does, or where one ends before
    it starts, ``RangeNotSatisfiable``.
    """
    texts = _split(header)
    spans = []
    for first, last in texts:
        if last and first and int(last) < int(first):
            raise _unsatisfiable(size)
        start = int(first) if first else max(0, size - int(last))
        end = min(int(last) + 1, size) if first and last else size
        if start < end:
            spans.append((start, end))
    if texts and not spans:
        raise _unsatisfiable(size)
    if len(spans) > 1 and sum(end - start for start, end in spans) > size:
        return []  # they overlap: the whole is less to send
    return spans


def content_range(start: int, end: int, size: int) -> str:
    """Return the Content-Range of the bytes from ``start`` up to ``end``."""
    return f"bytes {start}-{end - 1}/{size}"


def parse_chunk(header: str) -> tuple[int, int]:
    """Return ``(start, length)`` of the chunk that an upload's Content-Range announces."""
    match = _CHUNK.fullmatch(header.strip())
    if match is None or len(header) > 4 * _MAX_DIGITS or int(match[2]) < int(match[1]):
        raise BlobUploadInvalid(f"Content-Range must be <start>-<end>, not {header[:60]!r}")
    return int(match[1]), int(match[2]) - int(match[1]) + 1


def upload_range(size: int) -> str:
    """Return the Range of an upload that holds ``size`` bytes; ``0-0`` also stands for none."""
    return f"0-{max(0, size - 1)}"


def _split(header: str | None) -> list[tuple[str, str]]:
    """Return both ends of each range as they are written; none if one is not understood."""
    unit = _UNIT.fullmatch(header) if header else None
    if unit is None:
        return []
    parts = [part.strip() for part in unit[1].split(",")]
    matches = [_ONE_RANGE.fullmatch(part) for part in parts if part]
    found = [(match[1], match[2]) for match in matches if match]
    understood = len(found) == len(matches) <= MAX_RANGES and all(
        (first or last) and max(len(first), len(last)) <= _MAX_DIGITS for first, last in found
    )
    return found if understood else []


def _unsatisfiable(size: int) -> RangeNotSatisfiable:
    return RangeNotSatisfiable(
        f"the content has {size} bytes", headers={"Content-Range": f"bytes */{size}"}
    )


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
