# SPDX-License-Identifier: Apache-2.0
"""The authority that is asked for a certificate, and what it says where it issues none."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit


class OrderFailed(Exception):
    """No certificate was issued; the message says why, in one line."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        """Seconds that the server asks to wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """An ACME server, and what it wants to know of whoever orders."""

    directory: str
    ca: Path | None = None
    email: str | None = None
    profile: str | None = None
    key_id: str | None = None
    """The account with the authority that ours is bound to (RFC 8555, section 7.3.4)."""

    hmac_key: str | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """Return the name that messages call it by."""
        return urlsplit(self.directory).netloc.rpartition("@")[2]
