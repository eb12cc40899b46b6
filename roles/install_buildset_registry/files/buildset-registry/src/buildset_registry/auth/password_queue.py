# SPDX-License-Identifier: Apache-2.0
"""Passwords that wait to be checked: whose turn it is, and who is sent away where too many wait.

Whoever may connect can send wrong passwords, of as many user names as he likes. So turns go round
by networks, within one by user names, and of a name in order (fair queueing, RFC 970).
Where there is no more room, who comes gets some all the same: whoever has most waiting loses what
of that came last. Nothing here knows which names there are, or the time would tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from buildset_registry.errors import TooManyRequests

#: Checks of one user name that may wait in a network, those of a network, and of all.
_OF_USER, _OF_NETWORK, _OF_ALL = 16, 64, 1024
#: bcrypt looks at this many bytes of a password and no more (its own limit). ``htpasswd -B`` hashes
#: as many, so whoever set a longer password is let in by it, as distribution does.
_BCRYPT_BYTES = 72
_NICE = 10

_Turn = asyncio.Future[None]
_Users = OrderedDict[str, deque[_Turn]]


class Claimant(NamedTuple):
    """Whoever says to be a user: behind a proxy all have one address."""

    network: str
    user: str


class PasswordQueue:
    """Passwords that wait to be checked, in threads; close it at the end."""

    def __init__(self) -> None:
        self._free = max(1, (os.cpu_count() or 1) // 2)
        self._pool = ThreadPoolExecutor(self._free, "bcrypt", initializer=_give_way)
        self._first: deque[_Turn] = deque()
        self._waiting = Waiting()

    @contextlib.asynccontextmanager
    async def turn(self, claimant: Claimant, *, first: bool = False) -> AsyncIterator[None]:
        """Wait for one's turn, or to be the ``first`` of all, and have it.

        ``TooManyRequests`` where others came that have less waiting.
        """
        await self._turn(claimant, first=first)
        try:
            yield
        finally:
            self._next()

    async def matches(self, password: str, hashed: str) -> bool:
        """Check a password, whose turn it is."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _matches, password, hashed)

    def close(self) -> None:
        """Let running checks end, and start no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _turn(self, claimant: Claimant, *, first: bool) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        if first:
            self._first.append(turn)
        else:
            self._waiting.add(claimant, turn)
        await turn

    def _next(self) -> None:
        """Give the place of a check that has ended to the next one."""
        while turn := self._first.popleft() if self._first else self._waiting.pop():
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Waiting:
    """Those that wait for a turn, by network and user name."""

    def __init__(self) -> None:
        self._networks: OrderedDict[str, _Users] = OrderedDict()

    def add(self, claimant: Claimant, turn: _Turn) -> None:
        """Add one, and refuse one where these are too many now."""
        users = self._networks.setdefault(claimant.network, OrderedDict())
        own = users.setdefault(claimant.user, deque())
        own.append(turn)
        if len(own) > _OF_USER or _number(users) > _OF_NETWORK:
            self._refuse_one(claimant.network)
        elif sum(map(_number, self._networks.values())) > _OF_ALL:
            self._refuse_one(max(self._networks, key=lambda one: _number(self._networks[one])))

    def pop(self) -> _Turn | None:
        """Take the next one: of the network that has waited longest, its user that has."""
        if not self._networks:
            return None
        network, users = self._networks.popitem(last=False)
        user, turns = users.popitem(last=False)
        turn = turns.popleft()
        if turns:
            users[user] = turns
        if users:
            self._networks[network] = users
        return turn

    def _refuse_one(self, network: str) -> None:
        """Refuse the last one of the user that has most waiting in a network."""
        users = self._networks[network]
        user = max(users, key=lambda one: len(users[one]))
        turn = users[user].pop()
        if not users[user]:
            del users[user]
        if not users:
            del self._networks[network]
        if not turn.done():
            turn.set_exception(_too_many())


def _number(users: _Users) -> int:
    return sum(map(len, users.values()))


def _too_many() -> TooManyRequests:
    return TooManyRequests(
        "too many passwords are waiting to be checked; try again soon",
        headers={"Retry-After": "2"},
    )


def _give_way() -> None:
    """Lower the priority of this thread alone (Linux has it by thread): serving goes first."""
    with contextlib.suppress(OSError):  # where a unit or a container forbids it, it is as fast
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _matches(password: str, hashed: str) -> bool:
    """Check in a thread; bcrypt is imported with the first login, to start quickly."""
    import bcrypt

    try:
        return bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], hashed.encode())
    except ValueError:
        return False
