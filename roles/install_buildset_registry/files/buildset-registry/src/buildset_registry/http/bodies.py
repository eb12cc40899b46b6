# SPDX-License-Identifier: Apache-2.0
"""The memory of bodies that are gathered whole: manifests, and images that are handed over.

Each has a bound of its own (4 MiB, 1 MiB), and all of them together have this one: a client that
sends all but the last byte, on as many connections as it may hold, would have gigabytes of memory
for as long as it may be silent.
"""

from __future__ import annotations

from buildset_registry.errors import TooManyRequests
from buildset_registry.http.senders import Sender

_MIB = 1024 * 1024
#: Bytes of all that is counted.
_MOST = 64 * _MIB
#: Bytes of each body that are not counted: hardly a manifest is larger, and none of these is ever
#: refused, whatever others send.
FREE = 64 * 1024
#: Bytes that are counted at once.
_STEP = 64 * 1024


class BodyBudget:
    """The room for what is larger; shared by all endpoints."""

    def __init__(self, limit: int = _MOST) -> None:
        self._limit = limit
        # The rest is for others, as it is with uploads.
        self._each = limit * 3 // 4
        self._taken = 0
        self._own: dict[Sender, int] = {}

    def share(self, sender: Sender) -> BodyShare:
        """Return what one body takes, which nobody has counted yet."""
        return BodyShare(self, sender)

    def take(self, sender: Sender, size: int) -> None:
        """Count more bytes of a client; ``TooManyRequests`` where there is no room for them."""
        own = self._own.get(sender, 0)
        if self._taken + size > self._limit:
            raise _too_much(self._taken)
        if own + size > self._each:
            raise _too_much(own, f" from one client, {sender}")
        self._taken += size
        self._own[sender] = own + size

    def give_back(self, sender: Sender, size: int) -> None:
        """Let others have what was taken."""
        self._taken -= size
        self._own[sender] -= size
        if not self._own[sender]:
            del self._own[sender]


class BodyShare:
    """The part of the budget that one body has; close it when the body is needed no more."""

    def __init__(self, budget: BodyBudget, sender: Sender) -> None:
        self._budget = budget
        self._sender = sender
        self._counted = 0

    def cover(self, size: int) -> None:
        """Have room for a body of so many bytes; ``TooManyRequests`` where there is none."""
        more = size - FREE - self._counted
        if more > 0:
            step = max(more, _STEP)
            self._budget.take(self._sender, step)
            self._counted += step

    def close(self) -> None:
        """Give it back; once is enough, and twice does no harm."""
        if self._counted:
            self._budget.give_back(self._sender, self._counted)
            self._counted = 0


def _too_much(taken: int, whose: str = "") -> TooManyRequests:
    return TooManyRequests(
        f"manifests of {taken // _MIB} MiB are being received{whose}, as much as there is memory "
        "for; try again soon",
        headers={"Retry-After": "1"},
    )
