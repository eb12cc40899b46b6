# SPDX-License-Identifier: Apache-2.0
"""Keys at which there may be parts that no request knows of.

Some services tell what is on its way in parts only to whoever asks for the very key, and a process
may be killed after it began something and before it noted by which name the service knows it. So
the key is noted before, and stays so until the service has been asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from buildset_registry.store.objects.dialect import Dialect
from buildset_registry.store.objects.sessions import DATA
from buildset_registry.store.objects.small import SmallObjects

#: The object that notes the keys of blobs, a line for each.
NOTE = "moving"


class Doubts:
    """The keys of one upload."""

    def __init__(self, dialect: Dialect, small: SmallObjects, folder: str) -> None:
        """Take the folder of its own objects."""
        self.own = f"{folder}{DATA}"
        self._dialect = dialect
        self._small = small
        self._note = f"{folder}{NOTE}"
        self._keys: set[str] = set()

    @property
    def keys(self) -> tuple[str, ...]:
        """Return them, for the state of the session."""
        return tuple(sorted(self._keys))

    def add(self, *keys: str) -> None:
        """Know of some more."""
        self._keys.update(keys)

    async def note(self, *keys: str) -> None:
        """Note the keys of blobs, and some at which parts are about to be."""
        noted = sorted((self._keys | set(keys)) - {self.own})
        await self._small.write(self._note, "\n".join(noted).encode())

    async def settle(self) -> bool:
        """End what is at the upload's own key; False where a blob's has to stay noted.

        To that key another upload may be on its way: it is looked at when none can be any more.
        """
        if self.own in self._keys:
            await self._dialect.abandon(self.own, math.inf)
        if self._keys <= {self.own}:
            return True
        await self.note()
        return False


def noted(content: bytes) -> Iterable[str]:
    """Return the keys that were noted."""
    return content.decode().split("\n")
