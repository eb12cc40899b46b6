# SPDX-License-Identifier: Apache-2.0
"""The renewal: looks whether a certificate is due, has one replica order it, and tries again.

All replicas read the same documents: ``certificate.json``, ``account-<hash>.json``, the challenges
that are open, and ``state.json``, which says why the last order failed and when the next one is.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from buildset_registry.acme.authority import Authority, OrderFailed
from buildset_registry.acme.certificate import IssuedCertificate, shown_time
from buildset_registry.acme.challenges import Challenges
from buildset_registry.background import in_thread
from buildset_registry.store.documents import Documents, read_content

if TYPE_CHECKING:
    from buildset_registry.acme.client import AcmeClient

CERTIFICATE, STATE = "certificate.json", "state.json"
#: Seconds between two looks: at most, and while there is no certificate.
_LOOK, _FIRST_LOOK = 60.0, 2.0
#: Looks in the life of a certificate, at least.
_LOOKS = 60
#: Seconds between two orders, at most: by our own choice, and where the server asks for more.
_LONGEST_PAUSE, _LONGEST_ASKED = 6 * 3600.0, 24 * 3600.0
#: Seconds that an order may take in all.
_ORDER_SECONDS = 300.0

_log = logging.getLogger("buildset_registry.acme")


@dataclass(frozen=True, slots=True)
class RenewalState:
    """The orders that failed since the last one that did not."""

    problem: str | None = None
    failures: int = 0
    again: float = 0.0
    """When the next order is made, in seconds since the epoch."""

    @classmethod
    def of_json(cls, content: bytes | None) -> RenewalState:
        """Return what a document says; nothing, for one that is damaged or missing."""
        try:
            tree = json.loads(content or b"{}")
            found = cls(tree.get("problem"), int(tree["failures"]), float(tree["again"]))
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()
        return found

    def to_json(self) -> bytes:
        """Return the document."""
        return json.dumps(asdict(self)).encode()

    def waits(self, now: float) -> bool:
        """Tell whether it is too early to order; a clock that was set back does not count."""
        return now < self.again < now + _LONGEST_ASKED + 1

    def failed(self, error: OrderFailed, first: float, now: float) -> RenewalState:
        """Return the state after another failure; ``first`` is the first pause in seconds."""
        pause = min(first * 2.0 ** min(self.failures, 20), _LONGEST_PAUSE)
        asked = min(error.retry_after or 0.0, _LONGEST_ASKED)
        return RenewalState(str(error), self.failures + 1, now + max(pause, asked))


@dataclass(slots=True)
class OrderCounters:
    """The orders of this process."""

    issued: int = 0
    failed: int = 0
    in_a_row: int = 0
    """Those that failed since the last one that did not, by any replica."""


@dataclass(frozen=True, slots=True)
class RenewalRules:
    """The certificate that is wanted, from whom, and how often that is tried."""

    names: tuple[str, ...]
    authority: Authority
    retry: float


@dataclass(slots=True)
class Renewal:
    """Keeps a certificate current; ``current`` is the one to show, None before the first."""

    rules: RenewalRules
    documents: Documents
    challenges: Challenges
    reachable: Callable[[], Awaitable[None]]
    """Raises ``OrderFailed`` where the authority's question could not be answered."""

    client: Callable[[], AcmeClient]
    orders: bool = True
    """Whether this process orders, and answers; otherwise it shows what another one got."""

    current: IssuedCertificate | None = None
    state: RenewalState = field(default_factory=RenewalState)
    counters: OrderCounters = field(default_factory=OrderCounters)

    async def load(self) -> None:
        """Read the certificate that somebody ordered.

        One for other names is better than none: most of its clients use a name that stays.
        """
        content = await read_content(self.documents, CERTIFICATE)
        found = IssuedCertificate.of_json(content) if content else None
        if found is not None and (self.current is None or found.names == self.rules.names):
            self.current = found

    async def run(self) -> None:
        """Look for ever."""
        try:
            if self.orders:
                await self.reachable()
        except OrderFailed as error:
            _log.error("challenges of ACME cannot be answered: %s", error)
        while True:
            try:
                await self.look()
            except OSError as error:
                _log.error("the certificate cannot be looked for: %s", error)
            await asyncio.sleep(self._pause())

    async def look(self) -> None:
        """Order a certificate, if it is time to, and nobody else does."""
        await self.load()
        if not self._due():
            self._note(RenewalState())
            return
        self._note(RenewalState.of_json(await read_content(self.documents, STATE)))
        if not self.orders or self.state.waits(time.time()):
            return
        async with self.documents.turn() as mine:
            if not mine:
                return
            # Whoever had the turn before may have just ordered.
            await self.load()
            self._note(RenewalState.of_json(await read_content(self.documents, STATE)))
            if self._due() and not self.state.waits(time.time()):
                await self._try()

    def _note(self, state: RenewalState) -> None:
        self.state, self.counters.in_a_row = state, state.failures

    def _due(self) -> bool:
        rules, current = self.rules, self.current
        wanted = (rules.authority.directory, rules.names)
        return current is None or not current.ordered_by(*wanted) or current.due(time.time())

    def _pause(self) -> float:
        """Return how long to wait until the next look: less, the shorter certificates live."""
        if self.current is None or self.current.names != self.rules.names:
            return min(_FIRST_LOOK, self.rules.retry)
        begins, ends = self.current.times
        return min(_LOOK, max(1.0, (ends - begins) / _LOOKS))

    async def _try(self) -> None:
        try:
            # Nothing is ordered that could not be kept.
            now = time.time()
            begun = RenewalState("an order broke off", self.state.failures, now + self.rules.retry)
            await self.documents.write(STATE, begun.to_json())
            issued = await asyncio.wait_for(self._order(), _ORDER_SECONDS)
        except (OrderFailed, OSError, asyncio.TimeoutError) as error:
            await self._tell(_failure(error))
            return
        self.counters.issued += 1
        self._note(RenewalState())
        await self.documents.write(STATE, self.state.to_json())
        _log.info(
            "a certificate was issued for %s, until %s",
            ", ".join(self.rules.names),
            shown_time(issued.times[1]),
        )

    async def _order(self) -> IssuedCertificate:
        await self.reachable()
        rules, client = self.rules, await in_thread(self.client)
        name = account_name(rules.authority.directory)
        before = await read_content(self.documents, name)
        pending = await in_thread(lambda: client.begin(before, rules.names))
        if pending.account != before:
            await self.documents.write(name, pending.account)
        try:
            await self.challenges.publish(pending.challenges)
            chain, key = await in_thread(lambda: client.finish(pending))
        finally:
            await self.challenges.withdraw(pending.challenges)
        directory = rules.authority.directory
        issued = IssuedCertificate(directory=directory, names=rules.names, chain=chain, key=key)
        await self.documents.write(CERTIFICATE, issued.to_json())
        self.current = issued
        if issued.due(time.time()):
            raise OrderFailed(
                "the certificate that was just issued is not valid by the clock of this machine; "
                "set the clock"
            )
        return issued

    async def _tell(self, failure: OrderFailed) -> None:
        """Note a failure where all see it; the next order comes later each time."""
        self.counters.failed += 1
        now = time.time()
        self._note(self.state.failed(failure, self.rules.retry, now))
        current = self.current
        shown = (
            f"the one before ends {shown_time(current.times[1])}" if current else "there is none"
        )
        _log.error(
            "no certificate was issued for %s: %s; %s; again in %.0f s",
            ", ".join(self.rules.names),
            failure,
            shown,
            self.state.again - now,
        )
        try:
            await self.documents.write(STATE, self.state.to_json())
        except OSError as error:
            _log.error("the state of the certificate cannot be kept: %s", error)


def account_name(directory: str) -> str:
    """Return the name of the document of the account with a server."""
    return f"account-{hashlib.sha256(directory.encode()).hexdigest()[:16]}.json"


def _failure(error: Exception) -> OrderFailed:
    if isinstance(error, OrderFailed):
        return error
    if isinstance(error, asyncio.TimeoutError):
        return OrderFailed(f"the order took longer than {_ORDER_SECONDS:.0f} s")
    reason = getattr(error, "strerror", None) or str(error)
    return OrderFailed(f"what belongs to an order cannot be kept ({reason})")
