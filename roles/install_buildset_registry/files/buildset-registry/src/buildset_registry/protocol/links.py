# SPDX-License-Identifier: Apache-2.0
"""``Link`` headers (RFC 8288), by which a registry's lists go on; pure."""

from __future__ import annotations

import re

# RFC 8288, section 3, and what stands between that means nothing here:
#   link  "<" URI-Reference ">" *( ";" token [ "=" ( token / quoted-string ) ] )
# A string that does not end goes on to the end: to look for its end anew from each of its quotes
# would take seconds, in which nobody else is served.
_STRING = r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)'
_ITEM = re.compile(
    rf"""<(?P<address>[^<>]*)>
    | ;\s*(?P<name>[^\s=;,"<]+)\s*=\s*(?P<value>{_STRING}|[^\s;,"]*)
    | {_STRING}
    """,
    re.VERBOSE | re.DOTALL,
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
