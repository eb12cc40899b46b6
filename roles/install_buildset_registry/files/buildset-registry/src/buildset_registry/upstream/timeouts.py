# SPDX-License-Identifier: Apache-2.0
"""How long an upstream may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; a transfer that goes on may take any time."""

    connect: float = 10.0
    """For a connection: name, proxy and TLS included."""

    read: float = 60.0
    """For the next bytes."""
