# SPDX-License-Identifier: Apache-2.0
"""Requests as handlers see them: typed path values, query, headers, the body as it arrives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from functools import cached_property
from types import TracebackType
from urllib.parse import parse_qs, urlencode

from buildset_registry.auth.access import ANONYMOUS, Identity, client_network
from buildset_registry.errors import NameInvalid, RequestTimeout, SizeInvalid
from buildset_registry.http.asgi import ClientLeft, Message, Receive, Scope
from buildset_registry.http.bodies import BodyBudget, BodyShare
from buildset_registry.http.forwarded import PublicAddress, public_address
from buildset_registry.http.senders import Sender
from buildset_registry.oci.names import RepositoryName
from buildset_registry.pieces import Pieces

#: Fields of a query: clients name each scope of a token by one, and a token is for 200 at most.
_FIELDS = 256


class Request:
    """One request.

    ``url`` is the URL's path as the client wrote it; ``route`` is the identifier of what takes it,
    ``path`` holds what the route's pattern found, by name; ``client`` is the address it comes from,
    without a port, ``network`` what bounds know it by; ``identity`` is who asks, once known;
    ``received`` counts the bytes of the body, of which nothing may come for ``body_seconds``; 0 is
    for ever. What is read whole takes memory of ``bodies``: ``share``, which is to be closed.
    ``left`` is what waits for the client to leave, once somebody watches; ``receive`` gives who
    answers the next message.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        body_seconds: float = 0,
        bodies: BodyBudget | None = None,
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._body_seconds = body_seconds
        self._bodies = bodies
        self.share: BodyShare | None = None
        self._ahead: Awaitable[Message] | None = None
        self.left: asyncio.Future[None] | None = None
        self.receive = receive
        self._name: RepositoryName | None = None
        self.method: str = scope["method"]
        self.url: str = scope["path"]
        self.headers = _headers(scope["headers"])
        self._more = self.headers.get("content-length") != "0"
        client = scope.get("client")
        self.client = plain_address(client[0]) if client else ""
        self.network = client_network(self.client)
        self.route = ""
        self.received = 0
        self.path: Mapping[str, str] = {}
        self.identity: Identity = ANONYMOUS

    @cached_property
    def query_all(self) -> dict[str, list[str]]:
        """All query values by name."""
        raw = self._scope["query_string"]
        if not raw:
            return {}
        try:
            return parse_qs(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=_FIELDS)
        except ValueError:
            raise NameInvalid(f"the query has more than {_FIELDS} fields; send fewer") from None

    @cached_property
    def query(self) -> dict[str, str]:
        """Query values by name; of a repeated one the first."""
        if not self._scope["query_string"]:
            return {}
        return {name: values[0] for name, values in self.query_all.items()}

    @property
    def registry(self) -> str:
        """The registry that ``?ns=`` names; nothing where it names none."""
        if not self._scope["query_string"]:
            return ""
        try:
            return self.query.get("ns", "")
        except NameInvalid:
            return ""

    @property
    def namespace(self) -> str:
        """The query by which a further URL names the registry that ``?ns=`` names here."""
        return f"?{urlencode({'ns': self.registry})}" if self.registry else ""

    @cached_property
    def public(self) -> PublicAddress:
        """The registry's address as the client sees it."""
        return public_address(self.headers, self._scope["scheme"])

    @property
    def name(self) -> RepositoryName:
        """The stored name of the repository that the URL and ``?ns=`` name."""
        # Not a cached_property: before Python 3.12 that takes a lock, which is longer than this.
        if self._name is None:
            registry = self.query.get("ns") if self._scope["query_string"] else None
            self._name = RepositoryName.resolve(self.path["name"], registry)
        return self._name

    @property
    def sender(self) -> Sender:
        """Who sends the body, as those know it who bound what one client sends."""
        return Sender(self.identity.name, self.network)

    def source(self, query_name: str) -> RepositoryName | None:
        """Return the repository that a query parameter names, or None where it names none.

        It is one of the registry that ``?ns=`` names, as that of the URL is.
        """
        value = self.query.get(query_name)
        try:
            return RepositoryName.resolve(value, self.registry or None) if value else None
        except NameInvalid:
            return None

    @property
    def content_length(self) -> int | None:
        """The announced length of the body in bytes."""
        value = self.headers.get("content-length")
        if value is None:
            return None
        if not value.isdecimal():
            raise SizeInvalid("Content-Length is not a number")
        return int(value)

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces as they arrive; ``ClientLeft`` if the client goes before."""
        pace = BodyPace(self._body_seconds)
        while self._more:
            with BodyTimeout(self._body_seconds), pace:
                message = await self._next()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            pace.check(self.received)
            if self._more:
                # The server reads and decrypts the next piece while this one is used.
                self._ahead = self._receive()
            if chunk := message.get("body"):
                self.received += len(chunk)
                yield chunk

    @property
    def unread(self) -> bool:
        """True where there is a body of which the end has not been read."""
        return self._more and (
            "content-length" in self.headers or "transfer-encoding" in self.headers
        )

    async def discard(self) -> None:
        """Read what is left of the body and forget it."""
        while self._more:
            await self._next()

    def watch(self) -> asyncio.Future[None]:
        """Return what raises ``ClientLeft`` once the client goes; who watches reads no body."""
        if self.left is None:
            self.left = asyncio.ensure_future(self._until_client_leaves())
            self.left.add_done_callback(lambda left: left.cancelled() or left.exception())
            self.receive = self._disconnected
        return self.left

    async def _disconnected(self) -> Message:
        """Return that the client has left: while somebody watches, nobody else asks the server."""
        await asyncio.wait([self.watch()])
        return {"type": "http.disconnect"}

    async def _until_client_leaves(self) -> None:
        while (message := await self._receive())["type"] != "http.disconnect":
            self._more = message.get("more_body", False)
        raise ClientLeft

    async def _next(self) -> Message:
        """Return the next message, which may have been asked for before."""
        ahead, self._ahead = self._ahead or self._receive(), None
        message = await ahead
        self._more = message.get("more_body", False)
        return message

    async def read(self, limit: int) -> bytes | None:
        """Return a body of at most ``limit`` bytes whole, or None where it is larger.

        ``TooManyRequests`` where there is no memory for it.
        """
        length = self.content_length
        if length is not None and length > limit:
            return None
        pieces = Pieces()
        if self._bodies is not None:
            self.share = self._bodies.share(self.sender)
        async for piece in self.body():
            if pieces.size + len(piece) > limit:
                return None
            if self.share is not None:
                self.share.cover(pieces.size + len(piece))
            pieces.add(piece)
        return pieces.whole()


class BodyTimeout:
    """A limit of the time that the current task waits for a body; ``RequestTimeout`` ends it.

    Entered for each piece of a body, so it has to be cheap: ``asyncio.wait_for`` makes a task each
    time before Python 3.12, and ``asyncio.timeout`` is not in 3.10.
    """

    __slots__ = ("_expired", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False

    def __enter__(self) -> None:
        if self._seconds:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds, self._expire)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._expired and isinstance(error, asyncio.CancelledError):
            raise RequestTimeout(
                f"nothing was received for {self._seconds:g} seconds (limits.body_seconds)",
                headers={"Connection": "close"},
            ) from None

    def _expire(self) -> None:
        self._expired = True
        if self._task is not None:
            self._task.cancel()


class BodyPace:
    """The least that a body has to bring: one byte a minute would hold its memory for ever.

    What counts is the time that is waited for the client, not the time that the store takes.
    """

    __slots__ = ("_at_check", "_since", "_still", "_waited")

    #: Bytes within so many times as long as a client may send nothing.
    LEAST, TIMES = 64 * 1024, 10

    def __init__(self, still: float) -> None:
        self._still = still
        self._waited = self._since = 0.0
        self._at_check = 0

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_error: object) -> None:
        self._waited += time.monotonic() - self._since

    def check(self, received: int) -> None:
        """Raise ``RequestTimeout`` where too little has come for long."""
        if not self._still or self._waited < self._still * self.TIMES:
            return
        if received - self._at_check < self.LEAST:
            raise RequestTimeout(
                f"less than {self.LEAST} bytes were received in {self._waited:.0f} seconds; send "
                "faster, or the rest later",
                headers={"Connection": "close"},
            )
        self._at_check, self._waited = received, 0.0


def plain_address(address: str) -> str:
    """Return a client's address, an IPv4 one as such on a listener of both kinds."""
    return address.removeprefix("::ffff:")


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return header values by name, which ASGI has in lower case, repeated ones joined by commas.

    RFC 9110, section 5.3.
    """
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
