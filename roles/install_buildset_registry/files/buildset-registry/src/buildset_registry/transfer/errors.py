# SPDX-License-Identifier: Apache-2.0
"""Failures of a copy: one line each, what is wrong and what to do."""

from __future__ import annotations


class TransferError(Exception):
    """A copy that cannot go on; the message is one line for people, without a secret."""

    def __init__(
        self, message: str, *, transient: bool = False, status: int = 0, pause: float = 0.0
    ) -> None:
        # It may have words of a server's or of a stranger's file, which terminals would obey.
        super().__init__("".join(one if one.isprintable() else " " for one in message))
        self.transient = transient
        """Whether another try may succeed."""

        self.status = status
        """The answer's status, 0 where there was none."""

        self.pause = pause
        """The seconds after which the server wants to be asked again."""


class ContentMismatch(TransferError):
    """Content whose digest is not the one that it was asked for by."""
