# SPDX-License-Identifier: Apache-2.0
"""Requests to a service of objects: signed, sent, and tried again where that may help.

This imports aiohttp, which takes 0.2 s: only who opens such a store imports it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol, TypeAlias

import aiohttp
from yarl import URL

from buildset_registry import __version__
from buildset_registry.background import stop
from buildset_registry.parallel import to_its_end
from buildset_registry.protocol.proxy_env import ProxyEnvironment
from buildset_registry.store.objects.content import ContentStream, PieceSizes
from buildset_registry.store.objects.dialect import Body, ObjectFailure, ObjectState
from buildset_registry.store.objects.failures import (
    Patience,
    check_proxy_answer,
    explained,
    is_final,
    proxy_to,
)

_PIECE = 256 * 1024
#: Requests that wait for the head of an answer at once.
_AT_ONCE = 256
#: The most that is read of an answer that is no content: a page of a list.
_DOCUMENT = 16 * 1024 * 1024
#: Methods that change nothing; and the seconds for which who is cancelled waits for one that does.
_READS = frozenset({"GET", "HEAD"})
_BROKEN_OFF = 5.0
#: Answers after which the same request may succeed a moment later.
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_FULL = frozenset({413, 507})
_REFUSED = frozenset({401, 403})
_BROKEN = (aiohttp.ClientError, OSError, asyncio.TimeoutError)

#: What a service is verified with: certificates, the system's (True), or nothing (False).
TlsTrust: TypeAlias = ssl.SSLContext | bool

_chance = random.SystemRandom()
_log = logging.getLogger("buildset_registry.store")


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """A request, before it is signed."""

    method: str
    url: str
    """Whole and encoded: it arrives as it is signed."""

    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    streamed: bool = False
    """Whether what is answered is content, to be read piece by piece."""


class Signer(Protocol):
    """The keeper of a service's credentials."""

    async def sign(self, request: ServiceRequest) -> Mapping[str, str]:
        """Return all headers with which a request is to be sent."""

    async def renew(self) -> bool:
        """Have other credentials after a 401; False where there are none."""


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """The answer to a request."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    """All of it, unless it is streamed."""

    stream: ContentStream | None = None
    unsure: bool = False
    """Whether an earlier try may have been done without an answer."""

    @property
    def changed(self) -> float:
        """When the object was last written, at the latest: a header tells whole seconds."""
        return http_time(self.headers.get("Last-Modified", "")) + 1

    def close(self) -> None:
        """Be done with content that nobody reads to its end."""
        if self.stream is not None:
            self.stream.close()


@dataclass(frozen=True, slots=True)
class Reasons:
    """A dialect's reading of answers that are no success."""

    again: Callable[[ServiceAnswer], bool] = lambda _answer: False
    """Whether another try may help, besides what every service says so."""

    words: Callable[[ServiceAnswer], str] = lambda _answer: ""
    """The service's own words for what is wrong."""


class ServiceConnection:
    """Connections to one service, kept; made in a running loop, closed there."""

    def __init__(
        self,
        signer: Signer,
        tls: TlsTrust,
        reasons: Reasons | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._signer = signer
        self._tls = tls
        self._reasons = reasons or Reasons()
        self._patience = patience or Patience()
        self._sizes = PieceSizes()
        self._proxies = ProxyEnvironment(os.environ)
        # Whoever takes content slowly keeps a connection for long: nobody else waits for that.
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "User-Agent": f"buildset-registry/{__version__}",
                "Accept-Encoding": "identity",
            },
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._patience.connect, sock_read=self._patience.read
            ),
            read_bufsize=_PIECE,
        )

    async def ask(self, request: ServiceRequest) -> ServiceAnswer:
        """Send a request until it is answered by something that another try would not change."""
        unsure = renewed = False
        for attempt in range(1, self._patience.tries + 1):
            try:
                answer = await self._once(request, unsure=unsure)
            except _BROKEN as error:
                failure = explained(error, self._patience, request.url)
                unsure = unsure or not isinstance(error, aiohttp.ClientConnectorError)
                if attempt == self._patience.tries or is_final(error):
                    raise failure from None
                await self._rest(attempt, failure.strerror or "", {})
                continue
            if answer.status == 401 and not renewed:
                renewed = await self._signer.renew()
                if renewed:
                    continue
            if not self._worth_another(answer) or attempt == self._patience.tries:
                return answer
            unsure = unsure or answer.status >= 500
            await self._rest(attempt, self.told(answer), answer.headers)
        raise ObjectFailure("the object store did not answer")

    def told(self, answer: ServiceAnswer) -> str:
        """Return what an answer says, in a few words."""
        words = self._reasons.words(answer)
        return f"the object store answers {answer.status}{' ' if words else ''}{words}"

    def failure(self, answer: ServiceAnswer) -> ObjectFailure:
        """Return the error for an answer that is no success."""
        answer.close()
        words = self.told(answer)
        full = answer.status in _FULL or "quota" in words.lower()
        refused = errno.EACCES if answer.status in _REFUSED else errno.EIO
        return ObjectFailure(words, errno.EDQUOT if full else refused)

    async def aclose(self) -> None:
        """End all connections."""
        await self._session.close()

    async def _once(self, request: ServiceRequest, *, unsure: bool) -> ServiceAnswer:
        """Send a request; who is cancelled waits for a change, which may be on its way already.

        The service would make it after what is asked for next.
        """
        sending = self._send(request, unsure=unsure)
        if request.method in _READS:
            return await sending
        return await to_its_end(sending, _BROKEN_OFF)

    async def _send(self, request: ServiceRequest, *, unsure: bool) -> ServiceAnswer:
        headers = dict(await self._signer.sign(request))
        outgoing = None if request.body is None else _Outgoing(request.body)
        if outgoing is not None:
            headers["Content-Length"] = str(outgoing.size)
        proxy = proxy_to(request.url, self._proxies)
        asked = self._session.request(
            request.method,
            URL(request.url, encoded=True),
            headers=headers,
            data=None if outgoing is None else outgoing.data(),
            allow_redirects=False,
            ssl=self._tls,
            proxy=proxy,
            read_bufsize=min(_PIECE, self._sizes.size),
        )
        async with self._turns:
            if outgoing is None or outgoing.size <= _PIECE:
                raw = await asked
            else:
                raw = await outgoing.watched(asked, self._patience.read)
        if request.streamed and raw.status in (200, 206):
            stream = ContentStream(raw, self._sizes, self._patience.read)
            return ServiceAnswer(raw.status, raw.headers, b"", stream, unsure)
        async with raw:
            content = await _document(raw)
        check_proxy_answer(raw, proxy)
        return ServiceAnswer(raw.status, raw.headers, content, unsure=unsure)

    def _worth_another(self, answer: ServiceAnswer) -> bool:
        return answer.status in _AGAIN or self._reasons.again(answer)

    async def _rest(self, attempt: int, reason: str, headers: Mapping[str, str]) -> None:
        """Wait before another try: twice as long each time, by chance, or as the service says."""
        patience = self._patience
        most = min(patience.longest, patience.pause * 2**attempt)
        seconds = _chance.uniform(most / 2, most)
        told = headers.get("Retry-After", "")
        if told.isdecimal():
            seconds = max(seconds, min(float(told), patience.longest))
        _log.warning("%s; again in %.1f s", reason, seconds)
        await asyncio.sleep(seconds)


class _Outgoing:
    """A body on its way: aiohttp waits for ever for a service that takes no more of one."""

    def __init__(self, body: Body) -> None:
        self.size = body.size
        self._body = body
        self._taken = 0

    def data(self) -> AsyncGenerator[bytes] | bytes:
        """Return the body as aiohttp takes it."""
        return self._pieces() if self.size else b""

    async def _pieces(self) -> AsyncGenerator[bytes]:
        """Yield pieces that even a slow service takes in time."""
        for piece in self._body.pieces:
            for start in range(0, len(piece), _PIECE):
                yield piece[start : start + _PIECE] if len(piece) > _PIECE else piece
                self._taken += 1
        self._taken = -1

    async def watched(
        self, asked: Awaitable[aiohttp.ClientResponse], seconds: float
    ) -> aiohttp.ClientResponse:
        """Wait for the answer as long as pieces are taken; behind the last, aiohttp watches."""
        sending = asyncio.ensure_future(asked)
        try:
            while not sending.done():
                taken = self._taken
                await asyncio.wait({sending}, timeout=seconds)
                if taken == self._taken >= 0 and not sending.done():
                    raise asyncio.TimeoutError
            return sending.result()
        finally:
            await stop(sending)


async def _document(raw: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    while piece := await raw.content.read(_PIECE):
        content += piece
        if len(content) > _DOCUMENT:
            raise ObjectFailure("the object store sends a document that is too large")
    return bytes(content)


async def streamed(
    first: ServiceAnswer, start: int, end: int, again: Callable[[int], Awaitable[ServiceAnswer]]
) -> AsyncGenerator[bytes]:
    """Yield content from ``start`` up to ``end``; where it breaks, ``again`` opens the rest.

    A transfer may break as often as it gets further.
    """
    answer, failures = first, 0
    try:
        while start < end:
            try:
                piece = await answer.stream.read(end - start)  # type: ignore[union-attr]
            except _BROKEN:
                piece = b""
            if piece:
                failures = 0
                start += len(piece)
                yield piece
                continue
            answer.close()
            failures += 1
            if failures > 3:
                raise ObjectFailure("the object store sent less than it has")
            answer = await again(start)
    finally:
        answer.close()


def http_time(text: str) -> float:
    """Return a time of a header in seconds since the epoch; 0 where it is none."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError):
        return 0.0


def trust(ca: Path | None, *, verify: bool = True) -> TlsTrust:
    """Return what a service is verified with: the system's certificates, a CA's, or nothing."""
    if not verify:
        return False
    if ca is None:
        return True
    context = ssl.create_default_context(cafile=ca)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def state_of(key: str, answer: ServiceAnswer, version: str | None) -> ObjectState:
    """Return what the headers of an answer tell of an object, all or a range of which it brings."""
    headers = answer.headers
    size = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    if not size.isdecimal() or version is None:
        answer.close()
        raise ObjectFailure("the object store does not say how large an object is")
    return ObjectState(key, int(size), answer.changed, version)


def ranged(start: int, end: int | None) -> tuple[dict[str, str], int]:
    """Return the header that asks for a range, if it is one, and the status of the answer."""
    if not start and end is None:
        return {}, 200
    return {"Range": f"bytes={start}-{'' if end is None else end - 1}"}, 206
