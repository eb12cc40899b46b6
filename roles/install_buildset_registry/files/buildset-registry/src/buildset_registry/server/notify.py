# SPDX-License-Identifier: Apache-2.0
"""Words to systemd: a unit of ``Type=notify`` has started when the registry serves.

The protocol is that of sd_notify(3): a datagram to the socket that ``NOTIFY_SOCKET`` names. Where
nobody wants to know, it is not set.
"""

from __future__ import annotations

import contextlib
import os
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"


def notify(word: str) -> None:
    """Tell systemd; that it cannot be told is no reason to fail."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.sendto(word.encode(), "\0" + address[1:] if address[0] == "@" else address)
