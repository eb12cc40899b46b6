# SPDX-License-Identifier: Apache-2.0
"""Byte ranges: the ``Range`` of a download (RFC 9110, section 14) and the one of an upload.

An upload's ranges are the distribution specification's: ``<start>-<end>``, both ends included,
without a unit.
"""

from __future__ import annotations

import re

from buildset_registry.errors import BlobUploadInvalid, RangeNotSatisfiable

_ONE_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*", re.IGNORECASE)
_CHUNK = re.compile(r"(?:bytes[ =])?\s*(\d+)-(\d+)(?:/(?:\d+|\*))?", re.IGNORECASE)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return ``(start, end)`` with ``end`` excluded, or None where the whole content is meant.

    A header that is not understood is ignored (RFC 9110, 14.2), so are several ranges at once;
    one that lies outside the content raises ``RangeNotSatisfiable``.
    """
    match = _ONE_RANGE.fullmatch(header) if header else None
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        length = int(match[2])
        start, end = max(0, size - length), size
    else:
        start = int(match[1])
        end = min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= size or start == end:
        raise RangeNotSatisfiable(
            f"the content has {size} bytes", headers={"Content-Range": f"bytes */{size}"}
        )
    return start, end


def content_range(start: int, end: int, size: int) -> str:
    """Return the Content-Range of the bytes from ``start`` up to ``end``."""
    return f"bytes {start}-{end - 1}/{size}"


def parse_chunk(header: str) -> tuple[int, int]:
    """Return ``(start, length)`` of the chunk that an upload's Content-Range announces."""
    match = _CHUNK.fullmatch(header.strip())
    if match is None or int(match[2]) < int(match[1]):
        raise BlobUploadInvalid(f"Content-Range must be <start>-<end>, not {header[:60]!r}")
    return int(match[1]), int(match[2]) - int(match[1]) + 1


def upload_range(size: int) -> str:
    """Return the Range of an upload that holds ``size`` bytes; ``0-0`` also stands for none."""
    return f"0-{max(0, size - 1)}"
