# SPDX-License-Identifier: Apache-2.0
"""The record of requests: a line of the access log and numbers for each that was answered.

A line as text has client, user, time, request line, status, bytes of the answer's body, seconds,
user agent; as JSON the same by name, and the route. Lines are written in batches to save system
calls.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TextIO

from buildset_registry.auth.access import Identity
from buildset_registry.http.request import Request
from buildset_registry.http.response import Response, Stream
from buildset_registry.ledger.ledger import Sightings
from buildset_registry.ledger.rows import LONGEST
from buildset_registry.retention import Uses

_log = logging.getLogger("buildset_registry.http")

Format = Literal["text", "json"]

#: nginx's number for a client that closed the connection; only ever logged.
CLIENT_LEFT = 499
#: Seconds that a line may wait; what a killed process can lose.
_DELAY = 0.2


class AnsweredRequest(Protocol):
    """A request, as far as it is recorded."""

    @property
    def method(self) -> str:
        """The method."""

    @property
    def url(self) -> str:
        """The path of its URL; a server for ``CONNECT``."""

    @property
    def registry(self) -> str:
        """The registry that is meant; nothing where its path says it."""

    @property
    def route(self) -> str:
        """The identifier of what takes it."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Values by lower-case name."""

    @property
    def client(self) -> str:
        """The client's address."""

    @property
    def identity(self) -> Identity:
        """The user, as far as known."""

    @property
    def received(self) -> int:
        """Bytes of its body."""


class Counters(Protocol):
    """Numbers of one endpoint's requests."""

    running: int
    """Requests that are not answered yet."""

    def add(self, key: tuple[str, str, int], sent: int, received: int, seconds: float) -> None:
        """Count a request that has ended: route, method and status, bytes, seconds."""


class AnswerNotes(Protocol):
    """A taker of notes on answers."""

    def add(self, request: Request, response: Response, size: int) -> None:
        """Note an answer that was sent with ``size`` bytes, at once."""


#: By what a manifest is used: who asks whether an image is still the same has it, and does not
#: fetch it again.
_USES = frozenset({"end-3", "end-3-head"})


class UseNotes:
    """The notes of one endpoint's answers for retention: which manifests are used."""

    def __init__(self, uses: Uses) -> None:
        self._uses = uses

    def add(self, request: Request, response: Response, _size: int) -> None:
        """Note an answer that told of a manifest."""
        if request.route in _USES and response.status in (200, 304):
            self._uses.add(request.name, response.headers["Docker-Content-Digest"])


#: What the ledger is told of: who gets manifests and blobs, and who pushes manifests.
_NOTED = frozenset({"end-2", "end-3", "end-3-head", "end-7"})
#: That somebody may not read something, or asked in a wrong way, is no pull that failed.
_REFUSED = frozenset({400, 401, 403, 405, 406, 412, 413, 415, 416})


class LedgerNotes:
    """The notes of one endpoint's answers for the ledger; so short because each pull makes them."""

    def __init__(self, sightings: Sightings) -> None:
        self._sightings = sightings

    def add(self, request: Request, response: Response, size: int) -> None:
        """Note an answer that was sent with ``size`` bytes."""
        status = response.status
        if request.route not in _NOTED or status in _REFUSED:
            return
        headers, path, user = request.headers, request.path, request.identity.name
        # The ledger keeps many of these: no more of a text than a row has room for, and that it
        # goes on.
        key = (
            request.client,
            user and user[: LONGEST + 1],
            headers.get("user-agent", "")[: LONGEST + 1],
            request.route,
            request.name,
            path.get("reference") or path["digest"],
            response.headers.get("Docker-Content-Digest", ""),
            status,
        )
        seen = self._sightings.seen.get(key)
        if seen is None:
            seen = self._sightings.begin(key)
            seen.media_type = response.headers.get("Content-Type", "")
            registry = request.registry
            seen.asked = f"{path['name']}?ns={registry}" if registry else path["name"]
            if response.outcome is not None:
                seen.tags, seen.media_type = response.outcome.tags, response.outcome.media_type
        seen.requests += 1
        body = response.body
        if isinstance(body, Stream) and body.arriving:
            seen.arriving += size
        else:
            seen.stored += size


class AccessRecord:
    """The record of one endpoint's requests."""

    def __init__(self, access_log: AccessLog, counters: Counters) -> None:
        self._access_log = access_log
        self.counters = counters

    def add(self, request: AnsweredRequest, status: int, size: int, seconds: float) -> None:
        """Record a request that was answered with ``size`` bytes in so many seconds."""
        self._access_log.add(request, status, size, seconds)
        route = request.route
        key = (route, request.method, status) if route else ("none", "other", status)
        self.counters.add(key, size, request.received, seconds)


class AccessLog:
    """The lines of all endpoints; ``flush`` it at the end."""

    def __init__(self, output: TextIO, form: Format = "text") -> None:
        self._output = output
        self._line: Callable[[str, AnsweredRequest, int, int, float], str] = _FORMATS[form]
        self._lines: list[str] = []
        self._lost = 0
        self._second = 0
        self._stamp = ""

    def add(self, request: AnsweredRequest, status: int, size: int, seconds: float) -> None:
        """Take a line, to write it soon."""
        if not self._lines:
            asyncio.get_running_loop().call_later(_DELAY, self.flush)
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        self._lines.append(self._line(self._stamp, request, status, size, seconds))

    def flush(self) -> None:
        """Write what is waiting."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        try:
            self._output.write("".join(lines))
            self._output.flush()
        except OSError:  # its disk may have room again later
            self._lost += len(lines)
            return
        if self._lost:
            _log.error("%d lines of the access log are lost: its disk took none", self._lost)
            self._lost = 0


def _text(now: str, request: AnsweredRequest, status: int, size: int, seconds: float) -> str:
    user = _printable(request.identity.name or "-")
    agent = _printable(request.headers.get("user-agent", "-")[:LONGEST])
    asked = f"{_printable(request.method)} {_printable(request.url)}"
    if registry := request.registry:
        asked += f"?ns={_printable(registry)}"
    return (
        f"{request.client or '-'} {user} [{now}] "
        f'"{asked}" {status} {size} {seconds:.4f} "{agent}"\n'
    )


def _json(now: str, request: AnsweredRequest, status: int, size: int, seconds: float) -> str:
    agent = request.headers.get("user-agent")
    tree = {
        "time": now,
        "client": request.client or None,
        "user": request.identity.name,
        "method": request.method,
        "path": request.url,
        "registry": request.registry or None,
        "route": request.route or None,
        "status": status,
        "received": request.received,
        "sent": size,
        "seconds": round(seconds, 4),
        "agent": agent and agent[:LONGEST],
    }
    return json.dumps(tree, separators=(",", ":")) + "\n"


_FORMATS: dict[Format, Callable[[str, AnsweredRequest, int, int, float], str]] = {
    "text": _text,
    "json": _json,
}


def one_line(text: str) -> str:
    """Return ``text`` with escapes for what is not printable: the end of a line, ESC and so on."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _printable(text: str) -> str:
    """Return ``text`` without what could forge a line of the log."""
    if text.isprintable() and '"' not in text:
        return text
    return "".join(char if char.isprintable() and char != '"' else "?" for char in text)
