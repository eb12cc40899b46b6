# SPDX-License-Identifier: Apache-2.0
"""The clients of the registries that hold overlaid images: one for each token, while there is use.

Each token that is handed over is another holder, and a registry that stays is handed them for as
long as it runs. A client goes when the overlay does not name its token any more and nobody reads
by it; it takes its connections along.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from buildset_registry.overlay.document import ImageHolder
from buildset_registry.upstream.client import UpstreamClient

#: Clients that nobody uses at the moment; the one used longest ago goes first.
_IDLE = 32


@dataclass(slots=True)
class _Client:
    client: UpstreamClient
    users: int = 0


class HolderClients:
    """The clients, made by ``make`` when they are needed; ``named`` are the holders there are."""

    def __init__(
        self,
        make: Callable[[ImageHolder], UpstreamClient],
        named: Callable[[], Collection[ImageHolder]],
    ) -> None:
        self._make = make
        self._named = named
        self._held: OrderedDict[ImageHolder, _Client] = OrderedDict()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._held)

    @asynccontextmanager
    async def using(self, holder: ImageHolder) -> AsyncIterator[UpstreamClient]:
        """Have the client of a holder for a while."""
        held = self._held.get(holder)
        if held is None:
            held = self._held[holder] = _Client(self._make(holder))
        self._held.move_to_end(holder)
        held.users += 1
        try:
            yield held.client
        finally:
            held.users -= 1
            await self._let_go()

    async def close(self) -> None:
        """End all connections."""
        while self._held:
            _holder, held = self._held.popitem()
            await held.client.close()

    async def _let_go(self) -> None:
        """Close the clients that nobody uses, and nobody will or too many wait for use."""
        idle = [holder for holder, held in self._held.items() if not held.users]
        named = self._named()
        gone = [holder for holder in idle if holder not in named]
        rest = [holder for holder in idle if holder in named]
        gone += rest[: max(0, len(rest) - _IDLE)]
        for client in [self._held.pop(holder).client for holder in gone]:
            await client.close()
