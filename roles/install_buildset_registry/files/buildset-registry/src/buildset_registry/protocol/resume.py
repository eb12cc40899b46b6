# SPDX-License-Identifier: Apache-2.0
"""Resuming a blob: the bytes to ask for, and their place in it (RFC 9110, section 14); pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import UpstreamError

_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)", re.IGNORECASE)
_LENGTH = re.compile(r"\d{1,18}")


@dataclass(frozen=True, slots=True)
class PartialContent:
    """The place of an answer: ``skip`` bytes to leave out, then the blob from the offset on."""

    skip: int
    size: int | None
    """The whole blob's, where upstream tells it."""

    empty: bool = False
    """Whether the offset is the blob's end."""


def requested(offset: int) -> dict[str, str]:
    """Return the header that asks for a blob from ``offset`` on."""
    return {"Range": f"bytes={offset}-"} if offset else {}


def length(headers: Mapping[str, str]) -> int | None:
    """Return the Content-Length."""
    text = headers.get("Content-Length", "")
    return int(text) if _LENGTH.fullmatch(text) else None


def received(status: int, headers: Mapping[str, str], offset: int) -> PartialContent:
    """Find the place of an answer to ``requested(offset)``.

    A server may ignore the Range and send everything with 200.
    """
    if status == 200:
        return PartialContent(offset, length(headers))
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    total = int(match[3]) if match and match[3] != "*" else None
    if status == 416 and total == offset:
        return PartialContent(0, total, empty=True)
    if status == 206 and match and match[1] and int(match[1]) == offset:
        return PartialContent(0, total)
    raise UpstreamError(f"answers {status} to a request for the bytes from {offset} on")
