# SPDX-License-Identifier: Apache-2.0
"""Byte ranges: the ``Range`` of a download (RFC 9110, section 14) and that of an upload.

A download is answered in whole, in a part, or in several (``multipart/byteranges``). An upload's
ranges are the distribution specification's: ``<start>-<end>``, both ends included, without a unit.
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol

from buildset_registry.errors import BlobUploadInvalid, RangeNotSatisfiable
from buildset_registry.http.response import File, Response, Stream

#: Parts that one request may ask for: as many as containers/storage asks for at most, which
#: fetches the chunks of a zstd:chunked layer that it lacks.
MAX_RANGES = 1024

_UNIT = re.compile(r"\s*bytes\s*=(.*)", re.IGNORECASE)
_ONE_RANGE = re.compile(r"(\d*)-(\d*)", re.ASCII)
_CHUNK = re.compile(r"(?:bytes[ =])?\s*(\d+)-(\d+)(?:/(?:\d+|\*))?", re.IGNORECASE | re.ASCII)
#: More digits than any size has, and few enough for int().
_MAX_DIGITS = 18
#: Characters of so many ranges, with commas and blanks.
_LONGEST = MAX_RANGES * (2 * _MAX_DIGITS + len("-, "))

#: The bytes from the first number up to the second, which is excluded.
Span = tuple[int, int]
#: A body of the content's bytes from the first number up to the second.
Cut = Callable[[int, int], File | Stream]


class PartialReadable(Protocol):
    """Content of which a part can be had."""

    @property
    def size(self) -> int:
        """Return its size in bytes."""

    @property
    def chunks(self) -> Callable[[int, int], AsyncGenerator[bytes]]:
        """Return what yields the bytes from an offset up to another."""


def ranged_response(
    header: str, content: PartialReadable, cut: Cut, headers: Mapping[str, str]
) -> Response:
    """Return the answer to a ``Range``: 206 with what it asks for, or 200 with the whole."""
    size = content.size
    spans = parse_ranges(header, size)
    if not spans:
        return Response(200, headers, cut(0, size))
    if len(spans) > 1:
        return _multipart(spans, content, headers)
    return Response(
        206, {**headers, "Content-Range": content_range(*spans[0], size)}, cut(*spans[0])
    )


def parse_ranges(header: str, size: int) -> list[Span]:
    """Return the spans asked for in their order; none where the whole content is meant.

    A header that is not understood, or that asks for more than there is, is ignored (RFC 9110,
    14.2). Of several ranges those count that lie inside; where none does, or where one ends before
    it starts, ``RangeNotSatisfiable``.
    """
    texts = _split(header) if size else []  # of nothing there is no part
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
    ordered = sorted(spans)
    if any(after[0] < before[1] for before, after in itertools.pairwise(ordered)):
        return []  # they overlap: no client that means well asks so (RFC 9110, 17.15)
    return spans


def content_range(start: int, end: int, size: int) -> str:
    """Return the Content-Range of the bytes from ``start`` up to ``end``."""
    return f"bytes {start}-{end - 1}/{size}"


def parse_chunk(header: str) -> tuple[int, int]:
    """Return ``(start, length)`` of the chunk that an upload's Content-Range announces."""
    match = _CHUNK.fullmatch(header.strip()) if len(header) <= 4 * _MAX_DIGITS else None
    if match is None or int(match[2]) < int(match[1]):
        raise BlobUploadInvalid(f"Content-Range must be <start>-<end>, not {header[:60]!r}")
    return int(match[1]), int(match[2]) - int(match[1]) + 1


def upload_range(size: int) -> str:
    """Return the Range of an upload that holds ``size`` bytes; ``0-0`` also stands for none."""
    return f"0-{max(0, size - 1)}"


def _split(header: str) -> list[tuple[str, str]]:
    """Return both ends of each range as they are written; none if one is not understood.

    None either where there are too many: that is seen before they are looked at, since nobody else
    has a turn meanwhile.
    """
    unit = _UNIT.fullmatch(header) if len(header) <= _LONGEST else None
    if unit is None:
        return []
    parts = [one for part in unit[1].split(",") if (one := part.strip())]
    if len(parts) > MAX_RANGES:
        return []
    matches = [_ONE_RANGE.fullmatch(part) for part in parts]
    found = [(match[1], match[2]) for match in matches if match]
    understood = len(found) == len(matches) and all(
        (first or last) and max(len(first), len(last)) <= _MAX_DIGITS for first, last in found
    )
    return found if understood else []


def _unsatisfiable(size: int) -> RangeNotSatisfiable:
    return RangeNotSatisfiable(
        f"the content has {size} bytes", headers={"Content-Range": f"bytes */{size}"}
    )


def _multipart(
    spans: Sequence[Span], content: PartialReadable, headers: Mapping[str, str]
) -> Response:
    """Return the answer that has a part for each span (RFC 9110, 14.6)."""
    size = content.size
    boundary = uuid.uuid4().hex
    heads = [
        f"\r\n--{boundary}\r\nContent-Type: {headers['Content-Type']}\r\n"
        f"Content-Range: {content_range(start, end, size)}\r\n\r\n".encode()
        for start, end in spans
    ]
    close = f"\r\n--{boundary}--\r\n".encode()

    async def chunks() -> AsyncGenerator[bytes]:
        for before, (start, end) in zip(heads, spans, strict=True):
            head = before  # with the first piece, so that a failure before it comes before all
            async with aclosing(content.chunks(start, end)) as pieces:
                async for piece in pieces:
                    yield head + piece
                    head = b""
        yield close

    length = sum(map(len, heads)) + sum(end - start for start, end in spans) + len(close)
    kind = f"multipart/byteranges; boundary={boundary}"
    return Response(206, {**headers, "Content-Type": kind}, Stream(length, chunks()))
