# SPDX-License-Identifier: Apache-2.0
"""The hash of what arrives, computed by a thread of its own while more arrives.

Python lets other threads run while it hashes more than 2 KiB: one processor hashes while another
receives and writes.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable

from buildset_registry.oci.digest import Hasher

#: Pieces of one hash that may wait, 256 KiB each.
_WAITING = 4


class Hashers:
    """The threads that hash, at most as many as processors: more would only take memory."""

    def __init__(self, most: int | None = None) -> None:
        self._free = most or os.cpu_count() or 1

    def begin(self, state: Hasher) -> Hashing | None:
        """Go on with a running hash in a thread; None where all are busy, or there is none."""
        if not self._free:
            return None
        try:
            hashing = Hashing(state, self._ended)
        except RuntimeError:  # the system allows no more threads
            return None
        self._free -= 1
        return hashing

    def _ended(self) -> None:
        self._free += 1


class Hashing:
    """A running hash that a thread goes on with; once finished, it is of all that came."""

    def __init__(self, state: Hasher, ended: Callable[[], None]) -> None:
        self._state = state
        self._ended = ended
        self._pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(_WAITING)
        self._thread = threading.Thread(target=self._run, name="hash", daemon=True)
        self._thread.start()

    async def update(self, piece: bytes) -> None:
        """Hash a piece after those that wait; waits itself where these are many."""
        if not self._room.acquire(blocking=False):
            await asyncio.to_thread(self._room.acquire)
        self._pieces.put(piece)

    async def finish(self) -> None:
        """Wait until everything is hashed; who is cancelled meanwhile has to ask again."""
        self._pieces.put(None)
        await asyncio.to_thread(self._thread.join)
        self._ended()

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            self._state.update(piece)
            self._room.release()
