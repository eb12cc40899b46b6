# SPDX-License-Identifier: Apache-2.0
"""The clients that send something, of which one alone may not take all that there is."""

from __future__ import annotations

from typing import NamedTuple


class Sender(NamedTuple):
    """A client that sends: behind a proxy all have one address, and users are told apart."""

    user: str | None
    address: str
    """Of IPv6 the network that one host has for itself: it would be as many clients as it likes."""

    def __str__(self) -> str:
        """Return what messages call it."""
        return f"{self.user or 'anonymous'} at {self.address}"
