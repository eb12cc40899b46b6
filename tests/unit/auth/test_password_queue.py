# SPDX-License-Identifier: Apache-2.0
"""Whose password is checked next, and who loses a place where there is no more room."""

from __future__ import annotations

import asyncio

from buildset_registry.auth.password_queue import Claimant, Waiting
from buildset_registry.errors import TooManyRequests


class Queue:
    """What waits, by names that a test gives it."""

    def __init__(self) -> None:
        self.waiting = Waiting()
        self.named: dict[asyncio.Future[None], str] = {}

    def add(self, network: str, user: str, times: int = 1) -> None:
        for number in range(times):
            turn = asyncio.get_running_loop().create_future()
            self.named[turn] = f"{network} {user} {number}"
            self.waiting.add(Claimant(network, user), turn)

    @property
    def refused(self) -> list[str]:
        """Return who was told to try again, in the order in which they came."""
        return [name for turn, name in self.named.items() if turn.done() and _too_many(turn)]

    def order(self) -> list[str]:
        """Take all, and return whose turn it was."""
        found = []
        while turn := self.waiting.pop():
            found.append(self.named[turn])
        return found


def _too_many(turn: asyncio.Future[None]) -> bool:
    return not turn.cancelled() and isinstance(turn.exception(), TooManyRequests)


async def test_turns_go_round_by_network_and_then_by_user() -> None:
    """Whoever has more waiting has no more turns than others."""
    queue = Queue()
    queue.add("a", "x", 3)
    queue.add("a", "y")
    queue.add("b", "x", 2)
    wanted = ["a x 0", "b x 0", "a y 0", "b x 1", "a x 1", "a x 2"]
    assert queue.order() == wanted
    assert queue.order() == []


async def test_who_has_most_waiting_loses_the_last() -> None:
    """One name has 16 places, a network 64, all networks 1024; who comes finds one."""
    queue = Queue()
    queue.add("a", "x", 17)
    assert queue.refused == ["a x 16"]
    for number in range(48):
        queue.add("a", f"y{number}")
    assert queue.refused == ["a x 16"]
    queue.add("a", "new")
    assert queue.refused == ["a x 15", "a x 16"]
    for number in range(60):
        queue.add(f"network {number}", "z", 16)
    assert queue.refused == ["a x 15", "a x 16"]
    queue.add("newcomer", "z")
    assert queue.refused == ["a x 14", "a x 15", "a x 16"]
    order = queue.order()
    assert len(order) == 1024
    assert order.index("newcomer z 0") == 61


async def test_where_all_have_as_many_waiting_who_waited_longest_gives_way() -> None:
    """So ever new names wait no longer than a network has places."""
    queue = Queue()
    for number in range(70):
        queue.add("a", str(number))
    assert queue.refused == [f"a {number} 0" for number in range(6)]
    assert queue.order()[-1] == "a 69 0"


async def test_who_has_left_is_told_of_no_refusal() -> None:
    """Its place is free for who comes."""
    queue = Queue()
    queue.add("a", "x", 16)
    list(queue.named)[-1].cancel()
    for number in range(49):
        queue.add("a", f"y{number}")
    assert queue.refused == []
    assert len(queue.order()) == 64
