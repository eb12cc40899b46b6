# SPDX-License-Identifier: Apache-2.0
"""The failure of a request to another server, before it becomes a refusal to a client."""

from __future__ import annotations


class UpstreamError(Exception):
    """A reason in plain words, without the server's name; whoever knows that adds it."""

    def __init__(
        self, reason: str, *, transient: bool = False, retry_after: str | None = None
    ) -> None:
        self.reason = reason
        self.transient = transient
        """Whether another try may succeed at once."""

        self.retry_after = retry_after
        """When the server wants to be asked again, as it said it."""
        super().__init__(reason)
