# SPDX-License-Identifier: Apache-2.0
"""Types of the ASGI protocol (asgi.readthedocs.io, "HTTP & WebSocket Message Format")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class ClientLeft(Exception):
    """Tell that the client closed the connection before its request or its answer was whole."""
