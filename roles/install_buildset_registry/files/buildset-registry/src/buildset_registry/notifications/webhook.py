# SPDX-License-Identifier: Apache-2.0
"""One receiver of notifications: a queue in memory, and a task that empties it.

Nothing here keeps a request waiting: an event is put into the queue and that is all. A receiver
that is down gets what it missed, in order, as long as the queue has room; then the oldest is lost.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from buildset_registry.background import stop, supervised
from buildset_registry.errors import ConfigError
from buildset_registry.notifications.events import MEDIA_TYPE, Event, Source

if TYPE_CHECKING:
    from aiohttp import ClientSession

_LONGEST_WAIT = 60.0
#: Seconds for the rest of the queue at the end of the process.
_LAST_SECONDS = 3.0
#: A receiver that answers with these may take the same event later (RFC 9110, RFC 6585).
_LATER = frozenset({408, 425, 429})

_log = logging.getLogger("buildset_registry.notifications")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """A receiver of notifications, and the events that it does not want."""

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: Path | None = None
    timeout: float = 5
    wait: float = 1
    """Seconds before the first new attempt; each further one doubles it, up to a minute."""

    room: int = 10_000
    """Events that may wait."""

    ignored_actions: frozenset[str] = frozenset()
    ignored_media_types: frozenset[str] = frozenset()


class Webhook:
    """Sends events to one receiver; close it at the end."""

    def __init__(self, receiver: Receiver, source: Source) -> None:
        self.receiver = receiver
        self.sent = self.failed = self.lost = 0
        self._source = source
        self._tls = _trust(receiver)
        self._queue: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Return the number of events that wait."""
        return len(self._queue)

    def put(self, event: Event) -> None:
        """Send an event soon, unless the receiver does not want it."""
        receiver = self.receiver
        if event.action in receiver.ignored_actions:
            return
        if event.target.media_type in receiver.ignored_media_types:
            return
        if len(self._queue) >= receiver.room:
            if not self.lost:
                _log.error("notifications to %s are lost: its queue is full", receiver.name)
            self._queue.popleft()
            self.lost += 1
        self._queue.append(event)
        self._empty.clear()
        self._arrived.set()
        if self._task is None:
            self._task = supervised(f"sending to {self.receiver.name}", self._run)

    async def close(self, seconds: float = _LAST_SECONDS) -> None:
        """Send what waits, for a few seconds; say what is lost."""
        if self._task is None:
            return
        await asyncio.wait([asyncio.ensure_future(self._empty.wait())], timeout=seconds)
        await stop(self._task)
        if self._queue:
            _log.error(
                "%d notifications to %s are lost: it did not take them in time",
                len(self._queue),
                self.receiver.name,
            )

    async def _run(self) -> None:
        from aiohttp import ClientSession, ClientTimeout

        timeout = ClientTimeout(total=self.receiver.timeout or None)
        async with ClientSession(timeout=timeout, trust_env=True) as session:
            while True:
                while self._queue:
                    await self._deliver(session, self._queue[0])
                self._empty.set()
                self._arrived.clear()
                await self._arrived.wait()

    async def _deliver(self, session: ClientSession, event: Event) -> None:
        """Send one event until the receiver takes it, or refuses it for good."""
        wait = self.receiver.wait
        while self._queue and self._queue[0] is event:
            reason = await self._attempt(session, self._source.envelope(event))
            if reason is None:
                if self._queue and self._queue[0] is event:
                    self._queue.popleft()
                return
            self.failed += 1
            _log.warning(
                "notification to %s failed: %s; again in %g s", self.receiver.name, reason, wait
            )
            await asyncio.sleep(wait)
            wait = min(max(wait, 0.1) * 2, _LONGEST_WAIT)

    async def _attempt(self, session: ClientSession, body: bytes) -> str | None:
        """Send once; return why it should be tried again, or None when it is done with."""
        from aiohttp import ClientError

        headers = {**self.receiver.headers, "Content-Type": MEDIA_TYPE}
        url, tls = self.receiver.url, self._tls
        try:
            async with session.post(
                url, data=body, headers=headers, ssl=tls, allow_redirects=False
            ) as answer:
                status = answer.status
        except asyncio.TimeoutError:
            return f"no answer for {self.receiver.timeout:g} s"
        except (ClientError, OSError) as error:
            return str(error) or type(error).__name__
        if status < 400:
            self.sent += 1
            return None
        if status >= 500 or status in _LATER:
            return f"it answers {status}"
        self.lost += 1
        _log.error("%s refuses a notification: it answers %d", self.receiver.name, status)
        return None


def _trust(receiver: Receiver) -> ssl.SSLContext | bool:
    """Return what a receiver is verified with: the system's certificates, or its own."""
    if receiver.ca is None:
        return True
    try:
        return ssl.create_default_context(cafile=receiver.ca)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or "it holds no certificate"
        raise ConfigError(
            f"notifications: the ca {receiver.ca} of {receiver.name} cannot be used: {reason}"
        ) from None
