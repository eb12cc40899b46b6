# SPDX-License-Identifier: Apache-2.0
"""Why an upstream could not be asked."""

from __future__ import annotations


class Failure(Exception):
    """A reason in plain words, without the upstream's name; whoever knows that adds it."""

    def __init__(
        self, reason: str, *, passing: bool = False, retry_after: str | None = None
    ) -> None:
        self.reason = reason
        self.passing = passing
        """Whether another try may succeed at once."""

        self.retry_after = retry_after
        """When the server wants to be asked again, as it said it."""
        super().__init__(reason)
