# SPDX-License-Identifier: Apache-2.0
"""Ports for what the tests start: no other test's, and never one that a connection has by chance.

The kernel gives a connection that leaves the machine a port of its own choice, on Linux from 32768
(``net.ipv4.ip_local_port_range``). A port that was free a moment ago in that range may be taken
when a server wants it, so these are below. A process has a block of them as long as it lives.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator

_FIRST, _END, _BLOCK = 20_000, 32_000, 50
#: What keeps a block for a process: a socket at its first port.
_kept: dict[int, socket.socket] = {}
_drawn: dict[int, Iterator[int]] = {}


def free_port() -> int:
    """Return a port that nobody listens on and no other process of the tests is given."""
    process = os.getpid()
    if process not in _drawn:
        first = _block(process)
        _drawn[process] = itertools.cycle(range(first + 1, first + _BLOCK))
    for port in itertools.islice(_drawn[process], _BLOCK):
        if _is_free(port):
            return port
    message = "every port of this process's block is in use"
    raise RuntimeError(message)


def _is_free(port: int) -> bool:
    """Tell whether a server could listen on a port, at any address."""
    try:
        socket.create_server(("", port)).close()
    except OSError:
        return False
    return True


def _block(process: int) -> int:
    """Take a block of ports for a process; returns its first port."""
    blocks = list(range(_FIRST, _END, _BLOCK))
    begin = process % len(blocks)
    for first in [*blocks[begin:], *blocks[:begin]]:
        keeper = socket.socket()
        try:
            keeper.bind(("", first))
        except OSError:
            keeper.close()
        else:
            _kept[process] = keeper
            return first
    message = f"every block of ports from {_FIRST} to {_END} is in use"
    raise RuntimeError(message)
