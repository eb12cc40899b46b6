# SPDX-License-Identifier: Apache-2.0
"""Content codings that a server applies though nobody asked for one (RFC 9110, 8.4); pure.

A blob is never decoded: where its bytes are a compressed layer, some servers call that a coding.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from .errors import UpstreamError

#: What tells zlib to find out whether it is gzip's header or its own.
_EITHER = zlib.MAX_WBITS | 32
_KNOWN = frozenset({"gzip", "x-gzip", "deflate"})


def content_coding(headers: Mapping[str, str]) -> str:
    """Return the coding of an answer; empty where its content is as it is."""
    found = (value for name, value in headers.items() if name.lower() == "content-encoding")
    coding = next(found, "").strip().lower()
    return "" if coding == "identity" else coding


def decoded(raw: bytes, coding: str, limit: int) -> bytes:
    """Return a document of JSON as it was before coding, if that is at most ``limit`` bytes.

    Some servers name a coding and do not apply it.
    """
    if not coding or raw.lstrip().startswith((b"{", b"[")):
        return raw
    if coding not in _KNOWN:
        raise UpstreamError(f"sends content encoded as {coding[:40]!r}, which was not asked for")
    decoder = zlib.decompressobj(_EITHER)
    try:
        found = decoder.decompress(raw, limit + 1)
    except zlib.error:
        found = b""
    if len(found) > limit:
        raise too_large(limit)
    if not decoder.eof:
        raise UpstreamError(f"sends content encoded as {coding!r} that cannot be decoded")
    return found


def too_large(limit: int) -> UpstreamError:
    """Return the error of a body that is too large."""
    return UpstreamError(f"sends more than {limit // 1024} KiB, which is the limit")
