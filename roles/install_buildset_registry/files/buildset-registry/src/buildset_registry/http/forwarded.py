# SPDX-License-Identifier: Apache-2.0
"""The registry's public address: that of a proxy which ends TLS, not where the request arrives.

Proxies tell it by ``Forwarded`` (RFC 7239) or, more often, by ``X-Forwarded-Proto``, ``-Host``,
``-Port`` and ``-Prefix``. Of a chain of proxies the first one counts, which clients speak to. No
trust is needed: all that follows is what URLs look like in the answer to the one who sent it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

#: A pair of the first element, with what ends it (RFC 7239, section 4).
_PAIR = re.compile(r'\s*([a-z]+)=(?:"([^"]*)"|([^",;\s]*))\s*(;|,|$)', re.IGNORECASE)
_SCHEME = re.compile(r"https?", re.IGNORECASE)
_HOST = re.compile(r"(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?", re.IGNORECASE)
_PORT = re.compile(r"\d{1,5}", re.ASCII)
_PREFIX = re.compile(r"(?:/[a-z0-9._~-]+)+", re.IGNORECASE)
#: Characters of what a proxy says; a head may have a mebibyte, and nobody else has a turn while it
#: is looked at.
_LONGEST = 4 * 1024
#: Characters of a valid value, which answers and events have in them: a host has 253 (RFC 1035),
#: and a port.
_LONGEST_VALUE = 260
_DEFAULT_PORTS = {"https": "443", "http": "80"}


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """The registry's address as clients use it."""

    origin: str
    """Scheme, host and port."""

    prefix: str
    """The front of each path that the proxy takes off, such as ``/registry``; mostly nothing."""


def public_address(headers: Mapping[str, str], scheme: str) -> PublicAddress:
    """Return the address that a request was sent to; what is malformed or too long is absent."""
    said = _forwarded(headers.get("forwarded", ""))
    proto = _valid(_SCHEME, said.get("proto"), _first(headers, "x-forwarded-proto")) or scheme
    host = _valid(_HOST, said.get("host"), _first(headers, "x-forwarded-host"), headers.get("host"))
    port = _valid(_PORT, _first(headers, "x-forwarded-port"))
    proto, host = proto.lower(), host or "localhost"
    if port and port != _DEFAULT_PORTS.get(proto) and not re.search(r":\d+$", host):
        host = f"{host}:{port}"
    prefix = _first(headers, "x-forwarded-prefix").rstrip("/")
    return PublicAddress(f"{proto}://{host}", _valid(_PREFIX, prefix))


def _forwarded(text: str) -> dict[str, str]:
    """Return the pairs of the first element of a Forwarded header; none of one that is too long."""
    pairs: dict[str, str] = {}
    position, end = 0, ";" if len(text) <= _LONGEST else ""
    while end == ";":
        match = _PAIR.match(text, position)
        if match is None:
            break
        pairs[match[1].lower()] = match[2] if match[2] is not None else match[3]
        position, end = match.end(), match[4]
    return pairs


def _first(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "")
    return value.partition(",")[0].strip() if len(value) <= _LONGEST else ""


def _valid(pattern: re.Pattern[str], *candidates: str | None) -> str:
    """Return the first candidate of the right form, or an empty text."""
    for one in candidates:
        if one and len(one) <= _LONGEST_VALUE and pattern.fullmatch(one):
            return one
    return ""
