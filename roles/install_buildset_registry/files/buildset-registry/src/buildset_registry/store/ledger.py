# SPDX-License-Identifier: Apache-2.0
"""The contract of a store that keeps the ledger of its servers, beside what they all serve."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, runtime_checkable


class LedgerObjects(Protocol):
    """The objects of a ledger, each written by one server; ``OSError`` where the service fails."""

    def list(self) -> AsyncIterator[Sequence[tuple[str, int]]]:
        """Yield names and sizes, page by page, in no order."""

    async def read(self, name: str) -> bytes | None:
        """Return an object whole; None where there is none any more."""

    async def write(self, name: str, content: bytes) -> None:
        """Write an object whole, in place of what it was."""

    async def remove(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""


@runtime_checkable
class KeepsLedger(Protocol):
    """A store that several servers use at once, and that keeps their ledger beside the images."""

    @property
    def ledger(self) -> LedgerObjects:
        """Return the objects of the ledger."""
