# SPDX-License-Identifier: Apache-2.0
"""``Retry-After``, by which a server asks to be left alone for a while; pure."""

from __future__ import annotations

from email.utils import parsedate_to_datetime


def pause_of(header: str | None, now: float) -> float | None:
    """Return the seconds that a server asks for: a number, or a date (RFC 9110, section 10.2.3).

    None where it asks for none, or in words that nobody knows; 0 for a date that has passed.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - now, 0.0)
    except (TypeError, ValueError, OverflowError):
        return None
