# SPDX-License-Identifier: Apache-2.0
"""What a client of the proxy asks, and what it is told; pure (RFC 9110, 9.3.6; RFC 9112, 3.2.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

#: What a head may take; docker's has a few hundred bytes.
LARGEST_HEAD = 16 * 1024
END = b"\r\n\r\n"
#: A host's name or address, an IPv6 one in brackets, and a port.
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9_.-]{1,255})):(\d{1,5})", re.IGNORECASE)
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Refusal(Exception):
    """Refuse a tunnel: a status and one line that says what is wrong and what to do."""

    def __init__(self, status: int, line: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.line = line
        self.headers = dict(headers or {})
        super().__init__(line)


@dataclass(frozen=True, slots=True)
class Asked:
    """The head of a request: its first line, and header values by lower-case name."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)

    def server(self) -> tuple[str, int]:
        """Return the host, in small letters, and the port that a tunnel is wanted to."""
        if self.method != "CONNECT":
            raise Refusal(
                405,
                "this port is an HTTPS proxy for docker and knows CONNECT only; images are on "
                "the registry's other ports",
                {"Allow": "CONNECT"},
            )
        found = _AUTHORITY.fullmatch(self.target)
        if found is None or not 0 < int(found[3]) < 65536:
            raise Refusal(400, "CONNECT needs a host and a port, such as quay.io:443")
        return (found[1] or found[2]).lower().rstrip("."), int(found[3])


def parse_head(raw: bytes) -> Asked:
    """Parse a head; ``Refusal`` for what is none."""
    first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, _space, rest = first.partition(" ")
    target, _space, version = rest.partition(" ")
    if not version.startswith("HTTP/1."):
        raise Refusal(400, "this is not a request of HTTP/1.1")
    pairs = [line.partition(":") for line in lines]
    headers = {name.strip().lower(): value.strip() for name, _colon, value in pairs}
    return Asked(method, target, headers)


def refusal_bytes(refusal: Refusal) -> bytes:
    """Return the whole answer.

    The line is the reason phrase as well: of a proxy's answer, docker shows nothing else.
    """
    line = "".join(char if char.isprintable() and char.isascii() else "?" for char in refusal.line)
    body = f"{line}\n".encode()
    headers = {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **refusal.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {refusal.status} {line}\r\n{head}\r\n".encode() + body


def parse_answer(raw: bytes) -> int:
    """Return the status that another proxy answers with; 0 for what is no answer of HTTP."""
    found = re.match(rb"HTTP/1\.[01] (\d{3})[ \r]", raw)
    return int(found[1]) if found else 0
