# SPDX-License-Identifier: Apache-2.0
"""``Link`` headers (RFC 8288), by which a registry's lists go on; pure."""

from __future__ import annotations

import re

_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?', re.IGNORECASE)


def next_link(header: str | None) -> str | None:
    """Return the address of a list's next page, where the answer names one."""
    match = _NEXT.search(header or "")
    return match[1] if match else None
