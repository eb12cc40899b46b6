# SPDX-License-Identifier: Apache-2.0
"""Requests to one registry: logs in, follows redirects, and waits and tries again where that helps.

The token protocol itself is ``protocol.tokens``; here its requests are sent.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NoReturn, TypeVar
from urllib.parse import urljoin, urlsplit

from ..protocol.errors import UpstreamError
from ..protocol.retry_after import pause_of
from ..protocol.tokens import (
    Authorization,
    AuthorizationCache,
    Challenge,
    TokenAnswer,
    TokenRequest,
    UnauthorizedResponse,
    authorize,
    basic,
    challenges,
)
from ..protocol.urls import onward, origin, server
from .connections import Body
from .errors import TransferError
from .http_client import HttpClient, Reply
from .tries import LONGEST_PAUSE, Tries

TRIES = 5
#: Seconds before the second try; each next pause is twice as long.
PAUSE = 0.5
_DAY = 86400.0
_BASE = "/v2/"
#: What registries say of any manifest that they do not have.
_NO_NEWS = ("manifest unknown", "not found", "repository name not known", "name unknown")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
BUSY = frozenset({429, 503})
_PASSING = frozenset({408, 500, 502, 504})
_MAX_ANSWER = 1 << 20
#: Refusals of a login that was never taken, after which it is not sent any more: more of them would
#: lock the account at some registries.
_MOST_REFUSALS = 2
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class RegistryLogin:
    """A login at a registry: a user name and a password, or a bearer token as it is, or a token
    that its token server changes for such ones (docker's identity token)."""

    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def header(self) -> str | None:
        """The value of ``Authorization`` that carries them; no header carries an identity token."""
        if self.identity_token:
            return None
        return f"Bearer {self.token}" if self.token else basic(self.username, self.password)


@dataclass(frozen=True)
class Call:
    """A request to a registry; ``scope`` is what its token has to allow."""

    method: str
    path: str
    scope: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    once: bool = False
    """Whether whoever calls decides about another try."""

    @property
    def repeatable(self) -> bool:
        """Whether it can be sent a second time."""
        return self.body is None or isinstance(self.body, bytes)


class RegistrySession:
    """The way to one registry, with one account; any number of threads may use it."""

    def __init__(
        self,
        url: str,
        client: HttpClient,
        credentials: RegistryLogin | None = None,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.url = url
        self.name = server(url)
        self._client = client
        self.credentials = credentials
        self._clock = clock
        self.sleep = sleep
        self._cache = AuthorizationCache(clock)
        self._offered: tuple[Challenge, ...] = ()
        self._offered_for: dict[str, tuple[Challenge, ...]] = {}
        self._refusals, self._taken = 0, False
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def call(self, call: Call, accepted: Iterable[int]) -> Reply:
        """Send a request until it is answered with an accepted status; ``TransferError`` where
        none comes."""
        return self._repeated(call, partial(self._try, call, frozenset(accepted)))

    def read(self, call: Call, accepted: Iterable[int], limit: int) -> tuple[Reply, bytes]:
        """Send a request and read what is found, which is nothing but with 200; one that breaks off
        is sent again."""
        statuses = frozenset(accepted)

        def found() -> tuple[Reply, bytes]:
            reply = self._try(call, statuses)
            if reply.status == 200:
                return reply, reply.read(limit)
            reply.discard()
            return reply, b""

        return self._repeated(call, found)

    def _repeated(self, call: Call, ask: Callable[[], _Answer]) -> _Answer:
        """Ask until there is an answer, or no hope."""
        tries = Tries(TRIES, PAUSE)
        while True:
            try:
                return ask()
            except TransferError as error:
                if not (error.transient and call.repeatable) or call.once:
                    raise
                self.sleep(tries.pause(error))

    def log_in_ahead(self, scope: str) -> None:
        """Learn how the registry logs in, and do so, before the first request that needs it."""
        if self.credentials is None or self.credentials.token or self._offered:
            return
        with suppress(TransferError):
            self._try(Call("GET", _BASE, scope), frozenset({200})).discard()

    @property
    def here(self) -> bool:
        """Whether the registry has been reached, and is on this machine."""
        return self._client.here(self.url)

    def open_ahead(self, most: int) -> None:
        """Open a connection that will be wanted, unless there are so many."""
        self._client.open_ahead(self.url, most)

    def _try(self, call: Call, statuses: frozenset[int]) -> Reply:
        sent = self._authorization(call.scope)
        reply = self._ask(call, sent)
        if self._wants_login(reply) and self._log_in(reply, call, sent):
            if not call.repeatable:
                raise TransferError(f"{self.name} wants a new token", transient=True, status=401)
            reply = self._ask(call, self._authorization(call.scope))
        if reply.status in statuses:
            return reply
        self.refuse(call, reply)

    def _ask(self, call: Call, authorization: str | None) -> Reply:
        reply = self._send(call, authorization)
        if authorization is not None and authorization.startswith("Basic"):
            self._note(taken=not self._wants_login(reply))
        return reply

    def _send(self, call: Call, authorization: str | None) -> Reply:
        """Send a request where it leads; the header is for this registry alone."""
        url = onward_of(f"{self.url}/", call.path, self.name)
        for _hop in range(_MOST_REDIRECTS):
            headers = dict(call.headers)
            if authorization and origin(url) == origin(self.url):
                headers["Authorization"] = authorization
            reply = self._client.send(call.method, url, headers, call.body)
            target = reply.headers.get("Location")
            if reply.status not in _REDIRECTS or not target or not call.repeatable:
                return reply
            reply.discard()
            url = onward_of(url, target, self.name)
        raise TransferError(f"{self.name} redirects more than {_MOST_REDIRECTS} times")

    def refuse(self, call: Call, reply: Reply) -> NoReturn:
        """Raise what an answer means that was not wanted."""
        status = reply.status
        reason = _reason(reply) if call.method != "HEAD" else ""
        asked = reply.headers.get("Retry-After") if status in BUSY else None
        pause = pause_of(asked, self._clock()) or 0.0
        reply.close()
        words = f"{self.name} answers {status} to {call.method} {_shown(call.path)}"
        if status in (401, 403):
            words += f"; {self._lacking}"
        if pause > LONGEST_PAUSE:
            words += f"; it is not to be asked again for {_duration(pause)}"
        transient = (status in BUSY or status in _PASSING) and pause <= LONGEST_PAUSE
        raise TransferError(
            words + (f": {reason}" if reason else ""),
            transient=transient,
            status=status,
            pause=pause,
        )

    @property
    def _lacking(self) -> str:
        """What would be needed for what was refused."""
        if self.credentials is not None and self.credentials.token:
            return "its token has ended, or is not for that"
        who = "a user name and a password" if self.credentials is None else "other credentials"
        return f"give {who} with the right to do that (--authfile, or login first)"

    def _authorization(self, scope: str) -> str | None:
        """Return the header for a scope, with a token that is still good."""
        if self.credentials is not None and self.credentials.token:
            return self.credentials.header
        known = self._cache.get(scope)
        if known is not None and known.startswith("Basic") and self._login is None:
            return None
        if known is None and self._offered:
            with self._locks[scope]:
                offered = self._offered_for.get(scope, self._offered)
                known = self._cache.get(scope) or self._token(scope, offered)
        return known

    @property
    def _login(self) -> RegistryLogin | None:
        """The credentials, as long as there is any hope in them."""
        return self.credentials if self._taken or self._refusals < _MOST_REFUSALS else None

    def _note(self, *, taken: bool) -> None:
        """Note what became of the credentials."""
        self._taken |= taken
        self._refusals += not taken

    def _wants_login(self, reply: Reply) -> bool:
        """Tell whether the registry asks for a login; where it redirects to, nobody gets one."""
        return reply.status == 401 and origin(reply.url) == origin(self.url)

    def _log_in(self, reply: Reply, call: Call, sent: str | None) -> bool:
        """Find what answers a 401; False where what was sent is all there is.

        The scope that a 401 names is for this request. At ``/v2/`` it is for none: ghcr.io names an
        image there that nobody has, and gives no token for two.
        """
        scope, offered = call.scope, challenges(reply.headers.get_all("WWW-Authenticate") or [])
        if self.credentials is not None and self.credentials.token:
            return False
        with self._locks[scope]:
            if sent is not None and self._cache.get(scope) not in (None, sent):
                reply.discard()
                return True
            if sent is not None and sent.startswith("Basic"):
                return False
            reply.discard()
            self._offered = tuple(map(_without_scope, offered))
            if call.path != _BASE:
                self._offered_for[scope] = offered
            return self._token(scope, self._offered_for.get(scope, self._offered)) is not None

    def _token(self, scope: str, offered: Iterable[Challenge]) -> str | None:
        """Log in for a scope as the registry offers it."""
        asked = UnauthorizedResponse(
            f"{self.url}{_BASE}", tuple(_scoped(one, scope) for one in offered), scope
        )
        login = self._login
        steps = authorize(
            asked,
            login.header if login else None,
            self._clock,
            login.identity_token if login else "",
        )
        found: Authorization | None = None
        try:
            request = next(steps)
            while True:
                request = steps.send(self._ask_token_server(request))
        except StopIteration as done:
            found = done.value
        except UpstreamError as error:
            raise TransferError(f"{self.name}: {error.reason}") from None
        if found is None:
            return None
        self._cache.put(scope, found)
        return found.header

    def _ask_token_server(self, request: TokenRequest) -> TokenAnswer:
        method = "GET" if request.form is None else "POST"
        tries = Tries(TRIES, PAUSE)
        while True:
            try:
                reply = self._client.send(method, request.url, request.headers, request.form)
                if reply.status in BUSY or reply.status in _PASSING:
                    self.refuse(Call(method, request.url, ""), reply)
                if request.authorization or request.form is not None:
                    self._note(taken=reply.status != 401)
                return TokenAnswer(reply.status, reply.read(_MAX_ANSWER))
            except TransferError as error:
                if not error.transient:
                    raise
                self.sleep(tries.pause(error))


def _scoped(challenge: Challenge, scope: str) -> Challenge:
    """Return a challenge that asks for our scope and for the one that it names itself."""
    theirs = challenge.parameters.get("scope", "").split()
    ours = scope.split()
    repositories = {one.rpartition(":")[0] for one in ours}
    more = [one for one in theirs if one.rpartition(":")[0] not in repositories]
    return replace(challenge, parameters={**challenge.parameters, "scope": " ".join(ours + more)})


def _without_scope(challenge: Challenge) -> Challenge:
    parameters = {key: one for key, one in challenge.parameters.items() if key != "scope"}
    return replace(challenge, parameters=parameters)


def onward_of(url: str, target: str, name: str) -> str:
    """Return where a registry leads; ``TransferError`` for where it may not."""
    try:
        return onward(url, target)
    except UpstreamError as error:
        raise TransferError(f"{name} {error.reason}") from None


def absolute(url: str, target: str, name: str) -> str:
    """Return the address of what an answer names; ``TransferError`` where it is none."""
    try:
        return urljoin(url, target)
    except ValueError:
        raise TransferError(f"{name} names {target[:80]!r}, which is no address") from None


def _shown(path: str) -> str:
    """Return a path as a message may have it: a query may hold a signature."""
    return urlsplit(path).path


def _duration(seconds: float) -> str:
    """Write for people how long a server wants to be left alone."""
    return f"{seconds / 60:,.0f} minutes" if seconds < _DAY else "a day or longer"


def _reason(reply: Reply) -> str:
    """Return what an error body of the specification says, in one line."""
    code, message = _error(reply)
    return f"{code}: {message}" if code or message else ""


def _error(reply: Reply) -> tuple[str, str]:
    """Return the code and the message of an error body, each in one line, if it is one."""
    try:
        first = json.loads(reply.read(_MAX_ANSWER))["errors"][0]
        found = first.get("code", ""), first.get("message", "")
    except (TransferError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "", ""
    code, message = (" ".join(str(one).split())[:300] for one in found)
    return code, message


def message_of(reply: Reply) -> str:
    """Return what a registry says of what it does not have, where that is more than so."""
    message = _error(reply)[1]
    return "" if message.lower().startswith(_NO_NEWS) else message
