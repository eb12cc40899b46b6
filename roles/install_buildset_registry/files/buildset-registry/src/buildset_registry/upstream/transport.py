# SPDX-License-Identifier: Apache-2.0
"""HTTP requests to other servers, redirects included, and the reasons why one fails.

This imports aiohttp, which takes 0.2 s: ``client`` imports this module at the first request, so
that the server's start does not wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.connector import Connection
from yarl import URL

from buildset_registry.protocol.content_coding import content_coding, decoded, too_large
from buildset_registry.protocol.errors import UpstreamError
from buildset_registry.protocol.proxy_env import ProxyEnvironment
from buildset_registry.protocol.urls import onward, origin, server, without_query
from buildset_registry.upstream.hosts import UpstreamRequest
from buildset_registry.upstream.reach import Reach, reach_of

#: At most so much of a body is handed over at once, and so much more is read ahead.
_PIECE = 256 * 1024
#: The longest header: storage services sign URLs of several KiB.
_HEADER = 64 * 1024
#: A body up to this is read so that its connection can be used again.
_DISCARDED = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5

#: The errors of a request or a transfer; the last two come from waiting and from bad host names.
_BROKEN = (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError)
#: OpenSSL's X509_V_ERR_* that have another cure than a CA.
_CERTIFICATE = {
    9: "certificate is not valid yet; compare the clocks",
    10: "certificate has expired; it has to be renewed there",
    62: "certificate is for another host name; correct the url",
    64: "certificate is for another address; correct the url",
}
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})

_log = logging.getLogger("buildset_registry.upstream")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; a transfer that goes on may take any time."""

    connect: float = 10.0
    """For a connection: name, proxy and TLS included."""

    read: float = 60.0
    """For the next bytes."""

    document: float = 120.0
    """For all of what is no blob: manifests, lists, tokens, and the head of each answer. Who asks
    for one waits with all others who do, so one that drips would hold all of them for hours."""


class _Response(aiohttp.ClientResponse):
    """An answer that knows who sent it; its connection may be given back before anybody asks."""

    peer: str | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        peer = connection.transport and connection.transport.get_extra_info("peername")
        self.peer = peer[0] if peer else None
        return await super().start(connection)


class UpstreamResponse:
    """An answer whose body is still to be read, or to be closed."""

    def __init__(
        self,
        raw: aiohttp.ClientResponse,
        url: str,
        timeouts: Timeouts,
        reach: Reach,
        *,
        proxied: bool,
    ) -> None:
        self.status = raw.status
        self.method = raw.method
        self.headers: Mapping[str, str] = raw.headers
        self.url = url
        """Whose answer it is, after redirects."""
        self._reach = reach
        self._proxied = proxied
        self._peer = raw.peer if isinstance(raw, _Response) else None
        self.challenges = tuple(raw.headers.getall("WWW-Authenticate", ()))
        self._raw = raw
        self._timeouts = timeouts

    async def piece(self) -> bytes:
        """Wait for more of the body and return it; nothing at the end."""
        try:
            return await self._raw.content.read(_PIECE)
        except _BROKEN as error:
            raise _explained(error, self._timeouts) from None

    @property
    def coding(self) -> str:
        """The coding of the content, which nobody asked for; empty where it is as it is."""
        return content_coding(self.headers)

    def reach(self, url: str) -> Reach:
        """Return how far in the server of a URL may be that this answer points to."""
        if origin(url) == origin(self.url):
            return self._reach
        # Of a name behind a proxy, nothing is known.
        peer = origin(self.url)[1] if self._proxied else self._peer
        place = reach_of(peer or "")
        return min(self._reach, Reach.PUBLIC if place is None else place)

    async def read(self, limit: int) -> bytes:
        """Return the whole document if it is at most ``limit`` bytes, also unpacked."""
        return decoded(await self._whole(limit), self.coding, limit)

    async def discard(self) -> None:
        """Be done with a body of no interest."""
        try:
            await self._whole(_DISCARDED)
        except UpstreamError:
            self.close()

    def close(self) -> None:
        """Drop the connection, unless the body was read to its end and gave it back already."""
        self._raw.close()

    async def _whole(self, limit: int) -> bytes:
        seconds = self._timeouts.document
        try:
            return await asyncio.wait_for(self._gathered(limit), seconds)
        except asyncio.TimeoutError:
            raise UpstreamError(f"has not sent all of a document within {seconds:g} s") from None

    async def _gathered(self, limit: int) -> bytes:
        body = bytearray()
        while piece := await self.piece():
            body += piece
            if len(body) > limit:
                raise too_large(limit)
        return bytes(body)


class Transport:
    """Connections to other servers; made in a running loop, closed there."""

    def __init__(
        self, user_agent: str, environment: Mapping[str, str], timeouts: Timeouts | None = None
    ) -> None:
        self._timeouts = timeouts or Timeouts()
        self._user_agent = user_agent
        self._proxies = ProxyEnvironment(environment)
        self._trust = TrustStore()
        self._sessions: dict[Reach, aiohttp.ClientSession] = {}

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request and follow redirects; its Authorization stays with the server it is for.

        Storage services refuse a request that has both a signed URL and an Authorization.
        """
        url, headers, reach = request.url, dict(request.headers), request.reach
        for _hop in range(_MOST_REDIRECTS + 1):
            response = await self._hop(request, url, headers, reach)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                return response
            await response.discard()
            target = onward(url, location)
            if origin(target) != origin(url):
                headers.pop("Authorization", None)
                login = request.login(target)
                if login is not None:
                    headers["Authorization"] = login
            url, reach = target, response.reach(target)
        raise UpstreamError(f"redirects more than {_MOST_REDIRECTS} times")

    async def close(self) -> None:
        """End all connections."""
        for session in self._sessions.values():
            await session.close()

    def _session(self, reach: Reach) -> aiohttp.ClientSession:
        """Return the session for servers that may be so far in.

        Each has connections of its own: one that was made to a private registry which is
        configured does not serve a redirect of a public one.
        """
        if reach not in self._sessions:
            # Proxies are chosen here: with trust_env, aiohttp would also send ~/.netrc's passwords.
            self._sessions[reach] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, resolver=_Resolver(reach)),
                cookie_jar=aiohttp.DummyCookieJar(),
                response_class=_Response,
                # Content is what its digest says: never decompressed on the way.
                headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity"},
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=self._timeouts.connect, sock_read=self._timeouts.read
                ),
                read_bufsize=_PIECE,
                max_line_size=_HEADER,
                max_field_size=_HEADER,
            )
        return self._sessions[reach]

    async def _hop(
        self, request: UpstreamRequest, url: str, headers: dict[str, str], reach: Reach
    ) -> UpstreamResponse:
        begun = time.monotonic()
        proxy = self._proxies.find(url)
        try:
            if url != request.url or reach < Reach.LOOPBACK:
                _check_address(url, reach)
            # A proxy is where its setting says, and finds the address of a name itself.
            asked = self._session(Reach.LOOPBACK if proxy else reach).request(
                request.method,
                # Encoded: a signed URL has to arrive as it was signed.
                URL(url, encoded=True),
                headers=headers,
                allow_redirects=False,
                ssl=self._trust.context(request.ca, alone=origin(url) == request.ca_origin),
                proxy=proxy,
            )
            raw = await asyncio.wait_for(asked, self._timeouts.document)
        except _BROKEN as error:
            explained = _explained(error, self._timeouts)
            seconds = time.monotonic() - begun
            _log.warning(
                "%s %s: %s, %.3f s", request.method, without_query(url), explained.reason, seconds
            )
            raise _naming(explained, url, request.url) from None
        seconds = time.monotonic() - begun
        _log.info("%s %s %d %.3f s", request.method, without_query(url), raw.status, seconds)
        return UpstreamResponse(raw, url, self._timeouts, reach, proxied=proxy is not None)


class _ForbiddenAddress(OSError):
    """An address that an upstream may not lead to; another try does not help."""


def _check_address(url: str, reach: Reach) -> None:
    """Refuse an address in a URL; those of names are looked at when they are known."""
    host = origin(url)[1]
    found = reach_of(host)
    if found is not None and found > reach:
        raise _ForbiddenAddress(_refusal(host, found))


def _refusal(host: str, found: Reach) -> str:
    if found is Reach.NOBODY:
        return f"{host} is a link-local address; this is refused"
    return (
        f"{host} is {found.words} address, where an upstream leads only from one itself; "
        "this is refused"
    )


class _Resolver(aiohttp.ThreadedResolver):
    """The system's resolver, without addresses that are too far in."""

    def __init__(self, reach: Reach) -> None:
        super().__init__()
        self._reach = reach

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        places = [reach_of(one["host"]) or Reach.PUBLIC for one in found]
        allowed = [one for one, place in zip(found, places, strict=True) if place <= self._reach]
        if not allowed:
            raise _ForbiddenAddress(_refusal(host, min(places)))
        return allowed


def _naming(error: UpstreamError, url: str, requested: str) -> UpstreamError:
    """Name the server that failed where it is not the one that was asked."""
    if origin(url) == origin(requested):
        return error
    return UpstreamError(f"{server(url)}: {error.reason}", transient=error.transient)


class TrustStore:
    """TLS contexts, each made once."""

    def __init__(self) -> None:
        self._contexts: dict[tuple[Path | None, bool], ssl.SSLContext] = {}

    def context(self, ca: Path | None, *, alone: bool) -> ssl.SSLContext:
        """Trust ``ca``, and the system's certificates too unless it stands ``alone``."""
        key = (ca, alone and ca is not None)
        if key not in self._contexts:
            self._contexts[key] = _context(*key)
        return self._contexts[key]


def _context(ca: Path | None, alone: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca if alone else None)
        if ca is not None:
            context.load_verify_locations(ca)
            # As docker's certs.d: the file may hold the server's own certificate, and the CA may
            # be older than the rules that Python 3.13 is strict about.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    except ssl.SSLError:
        raise UpstreamError(f"its ca {ca} holds no certificate; name a PEM file") from None
    except OSError as error:
        raise UpstreamError(f"its ca {ca} cannot be read ({error.strerror}); correct it") from None
    return context


def _explained(error: Exception, timeouts: Timeouts) -> UpstreamError:
    """Return the reason of a request's failure in plain words.

    What has waited long already (names, time-outs) or cannot change (certificates) is not worth
    another try.
    """
    if isinstance(error, _ForbiddenAddress):
        return UpstreamError(str(error))
    if isinstance(error, aiohttp.ClientConnectorError):
        return _not_connected(error)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return UpstreamError(f"the proxy refuses to connect: {error.status} {error.message}")
    if isinstance(error, asyncio.TimeoutError):
        return UpstreamError(_late(error, timeouts))
    if isinstance(error, aiohttp.ClientResponseError):
        return UpstreamError("answers with something that is not HTTP")
    if isinstance(error, ValueError):  # aiohttp's InvalidURL is one
        return UpstreamError("its URL has no valid host name")
    return UpstreamError("the connection broke", transient=True)


def _late(error: asyncio.TimeoutError, timeouts: Timeouts) -> str:
    """Return what did not come in time; the last one is no time-out of aiohttp's."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"no connection within {timeouts.connect:g} s"
    if isinstance(error, aiohttp.ServerTimeoutError):
        return f"no data for {timeouts.read:g} s"
    return f"no answer within {timeouts.document:g} s"


def _not_connected(error: aiohttp.ClientConnectorError) -> UpstreamError:
    cause = error.os_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return UpstreamError(
            _CERTIFICATE.get(cause.verify_code, "certificate is not trusted; set its ca")
        )
    if isinstance(cause, ssl.SSLError):
        if cause.reason in _NO_TLS:
            return UpstreamError("does not speak TLS; if that is right, set its url to http://")
        return UpstreamError(f"TLS failed ({cause.reason})")
    if isinstance(cause, _ForbiddenAddress):
        return UpstreamError(str(cause))
    if isinstance(cause, socket.gaierror):
        return UpstreamError(f"its host name {error.host} cannot be resolved ({cause.strerror})")
    # A server that hangs up during TLS leaves an error without any word.
    words = str(cause) or "the server ends the connection before it answers"
    reason = os.strerror(cause.errno).lower() if cause.errno else words
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return UpstreamError(f"the proxy {error.host}:{error.port}: {reason}", transient=True)
    return UpstreamError(reason, transient=True)
