# SPDX-License-Identifier: Apache-2.0
"""Notices of the processes that share a storage: a part of the contract of a store.

They are for people. Nothing that is stored depends on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Replicas(Protocol):
    """The notices by which the processes that share a storage tell of themselves."""

    async def tell(self, notice: bytes) -> None:
        """Put the notice of this process in place of the one before."""

    async def told(self) -> Sequence[bytes]:
        """Return the notices of all processes, also of those that ended without a word."""

    async def leave(self) -> None:
        """Take the notice of this process away."""
