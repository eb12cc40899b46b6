# SPDX-License-Identifier: Apache-2.0
"""CONNECT: its requests, its answers, and who may send it (RFC 9110, 9.3.6; RFC 9112, 3.2.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from buildset_registry.auth.access import Access, Identity, Policy
from buildset_registry.auth.authenticator import REALM, Authenticator
from buildset_registry.errors import NameInvalid, RegistryError, Unauthorized
from buildset_registry.oci.hosts import normal_host

#: Bytes that a head may have; docker's has a few hundred.
MAX_HEAD = 16 * 1024
HEAD_END = b"\r\n\r\n"
#: A host's name or address, an IPv6 one in brackets, and a port.
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9_.-]{1,255})):(\d{1,5})", re.IGNORECASE)
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_CHALLENGE = {"Proxy-Authenticate": f'Basic realm="{REALM}"'}


class ConnectRefused(Exception):
    """Refuse a tunnel: a status and one line that says what is wrong and what to do."""

    def __init__(self, status: int, line: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.line = line
        self.headers = dict(headers or {})
        super().__init__(line)


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """The head of a request: its first line, and header values by lower-case name."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)

    def server(self) -> tuple[str, int]:
        """Return the host, in its normal form, and the port that a tunnel is wanted to."""
        if self.method != "CONNECT":
            raise ConnectRefused(
                405,
                "this port is an HTTPS proxy for docker and knows CONNECT only; images are on "
                "the registry's other ports",
                {"Allow": "CONNECT"},
            )
        found = _AUTHORITY.fullmatch(self.target)
        try:
            if found is not None and 0 < int(found[3]) < 65536:
                return normal_host(found[1] or found[2]), int(found[3])
        except NameInvalid:
            pass
        raise ConnectRefused(400, "CONNECT needs a host and a port, such as quay.io:443")


def parse_head(raw: bytes) -> ConnectRequest:
    """Parse a head; ``ConnectRefused`` for what is none."""
    first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, _space, rest = first.partition(" ")
    target, _space, version = rest.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ConnectRefused(400, "this is not an HTTP/1.1 request")
    pairs = [line.partition(":") for line in lines]
    headers = {name.strip().lower(): value.strip() for name, _colon, value in pairs}
    return ConnectRequest(method, target, headers)


def refusal_bytes(refusal: ConnectRefused) -> bytes:
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


class Admission:
    """The right to use the proxy: users, networks and passwords are those of the endpoints."""

    def __init__(self, policy: Policy, authenticator: Authenticator) -> None:
        self._policy = policy
        self._authenticator = authenticator

    async def admit(self, client: str, credentials: str) -> Identity:
        """Return the user of a Proxy-Authorization header; ``ConnectRefused`` says why not."""
        try:
            self._policy.check_network(client)
            if not credentials.lower().startswith("basic "):
                wanted = "this proxy needs the registry's user name and password"
                raise ConnectRefused(407, wanted, _CHALLENGE)
            # As for a push: no user that is known elsewhere only passes for nobody in particular.
            identity = await self._authenticator.authenticate(credentials, Access.PUSH, client)
        except Unauthorized as error:
            raise ConnectRefused(407, f"{error.message} (for this proxy)", _CHALLENGE) from None
        except RegistryError as error:
            raise ConnectRefused(error.status, error.message, error.headers) from None
        if identity.name is None:
            raise ConnectRefused(407, "the user name is empty", _CHALLENGE)
        return identity
