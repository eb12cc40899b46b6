# SPDX-License-Identifier: Apache-2.0
"""bcrypt checks: few at once, in threads that give way, in fair turns between clients.

A check takes 0.2 to 0.3 s of a processor by design. So wrong passwords are a way to keep a registry
busy: here they wait in a queue of the client that sent them, and every client gets its turn.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor

from buildset_registry.errors import TooManyRequests

#: Checks of one client that may wait, and of all; requests that ask the same share one.
_WAITING = 16
_WAITING_ALL = 1024
#: bcrypt looks at this many bytes of a password and no more (its own limit). ``htpasswd -B`` hashes
#: as many, so whoever set a longer password is let in by it, as distribution does.
_BCRYPT_BYTES = 72
_NICE = 10


class Checks:
    """The queue; close it at the end."""

    def __init__(self) -> None:
        self._free = max(1, (os.cpu_count() or 1) // 2)
        self._pool = ThreadPoolExecutor(self._free, "bcrypt", initializer=_give_way)
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def matches(self, client: str, password: str, hashed: str) -> bool:
        """Check a password when it is the client's turn; ``TooManyRequests`` when too many wait."""
        await self._turn(client)
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, _matches, password, hashed)
        finally:
            self._next()

    def close(self) -> None:
        """Let running checks end, and start no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _turn(self, client: str) -> None:
        if self._free:
            self._free -= 1
            return
        own = len(self._waiting.get(client, ()))
        if own >= _WAITING or sum(map(len, self._waiting.values())) >= _WAITING_ALL:
            raise TooManyRequests(
                "too many passwords wait to be checked; try again soon",
                headers={"Retry-After": "2"},
            )
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        await turn

    def _next(self) -> None:
        """Give the place to the client that has waited longest, one request of it at a time."""
        while self._waiting:
            client, queue = self._waiting.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._waiting[client] = queue
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


def _give_way() -> None:
    """Lower the priority of this thread alone (Linux has it by thread): serving goes first."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _matches(password: str, hashed: str) -> bool:
    """Check in a thread; bcrypt is imported with the first login, to start quickly."""
    import bcrypt

    try:
        return bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], hashed.encode())
    except ValueError:
        return False
