# SPDX-License-Identifier: Apache-2.0
"""``Link`` headers (RFC 8288), by which a registry's lists go on; pure."""

from __future__ import annotations

import re

# RFC 8288, section 3, and what stands between that means nothing here:
#   link  "<" URI-Reference ">" *( ";" token [ "=" ( token / quoted-string ) ] )
_ITEM = re.compile(
    r"""<(?P<address>[^<>]*)>
    | ;\s*(?P<name>[^\s=;,"<]+)\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|[^\s;,"]*)
    | "(?:[^"\\]|\\.)*"
    """,
    re.VERBOSE,
)


def next_link(header: str | None) -> str | None:
    """Return the address of a list's next page, where the answer names one."""
    address = None
    for item in _ITEM.finditer(header or ""):
        if item["address"] is not None:
            address = item["address"]
        elif address and _says_next(item["name"], item["value"]):
            return address
    return None


def _says_next(name: str | None, value: str | None) -> bool:
    return (name or "").lower() == "rel" and "next" in (value or "").strip('"').lower().split()
