# SPDX-License-Identifier: Apache-2.0
"""The listening sockets of all servers.

Granian would share a port with others of the same user (SO_REUSEPORT), and does not say in a way
that a user could act on that it is taken: so it gets sockets of ours.
"""

from __future__ import annotations

import errno
import os
import socket
from ipaddress import IPv4Address, IPv6Address

from buildset_registry.errors import ConfigError

#: Connections that may wait to be accepted.
BACKLOG = 1024


def every_address() -> str:
    """Return the address that means every one, IPv6 ones too where the host has IPv6."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return str(IPv4Address(0))
    return str(IPv6Address(0))


def open_listener(address: str, port: int, role: str, taking_seconds: int) -> socket.socket:
    """Listen, on IPv4 too where the address means every one; ``ConfigError`` where it is taken.

    Each connection inherits the options of the socket that it came by (tcp(7)): one of which
    nothing that was sent is taken for ``taking_seconds`` ends, and its memory is free; 0 is for
    ever. No end of an answer waits until the client has confirmed what came before it, which takes
    40 ms where the client has nothing to say (RFC 896, RFC 1122 section 4.2.3.2).
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    dual = address == str(IPv6Address(0)) and socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server(
            (address, port), family=family, dualstack_ipv6=dual, backlog=BACKLOG
        )
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {role} port {port} ({address}): {_reason(error)}"
        ) from None
    set_options(listener, taking_seconds)
    return listener


def _reason(error: OSError) -> str:
    """Return why an address cannot be listened on, and what to do."""
    if (error.errno or 0) < 0:  # of getaddrinfo(3), not of errno(3)
        return "it is no address; give one of this host, without brackets"
    reason = os.strerror(error.errno or 0)
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return f"{reason}; give an address of this host"
    return f"{reason}; stop what uses it or choose another port"


def set_options(listener: socket.socket, taking_seconds: int) -> None:
    """Set what each connection inherits from the socket that it comes by."""
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, taking_seconds * 1000)
