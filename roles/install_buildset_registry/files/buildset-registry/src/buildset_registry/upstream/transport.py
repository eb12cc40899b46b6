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
from yarl import URL

from buildset_registry.upstream.errors import UpstreamError
from buildset_registry.upstream.hosts import UpstreamRequest
from buildset_registry.upstream.proxy_env import ProxyEnvironment
from buildset_registry.upstream.urls import is_forbidden, onward, origin, server, without_query

#: At most so much of a body is handed over at once, and so much more is read ahead.
_PIECE = 256 * 1024
#: The longest header: storage services sign URLs of several KiB.
_HEADER = 64 * 1024
#: A body up to this is read so that its connection can be used again.
_DISCARDED = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5

#: The errors of a request or a transfer; the last two come from waiting and from bad host names.
_BROKEN = (aiohttp.ClientError, OSError, asyncio.TimeoutError, UnicodeError)
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


class UpstreamResponse:
    """An answer whose body is still to be read, or to be closed."""

    def __init__(self, raw: aiohttp.ClientResponse, url: str, timeouts: Timeouts) -> None:
        self.status = raw.status
        self.headers: Mapping[str, str] = raw.headers
        self.url = url
        """Whose answer it is, after redirects."""
        self.challenges = tuple(raw.headers.getall("WWW-Authenticate", ()))
        self._raw = raw
        self._timeouts = timeouts

    async def piece(self) -> bytes:
        """Wait for more of the body and return it; nothing at the end."""
        try:
            return await self._raw.content.read(_PIECE)
        except _BROKEN as error:
            raise _explained(error, self._timeouts) from None

    async def read(self, limit: int) -> bytes:
        """Return the whole body if it is at most ``limit`` bytes."""
        body = bytearray()
        while piece := await self.piece():
            body += piece
            if len(body) > limit:
                raise UpstreamError(f"sends more than {limit // 1024} KiB, which is the limit")
        return bytes(body)

    async def discard(self) -> None:
        """Be done with a body of no interest."""
        try:
            await self.read(_DISCARDED)
        except UpstreamError:
            self.close()

    def close(self) -> None:
        """Drop the connection, unless the body was read to its end and gave it back already."""
        self._raw.close()


class Transport:
    """Connections to other servers; made in a running loop, closed there."""

    def __init__(
        self, user_agent: str, environment: Mapping[str, str], timeouts: Timeouts | None = None
    ) -> None:
        self._timeouts = timeouts = timeouts or Timeouts()
        self._proxies = ProxyEnvironment(environment)
        self._trust = TrustStore()
        # Proxies are chosen here: with trust_env, aiohttp would also send credentials of ~/.netrc.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, resolver=_Resolver()),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Content is what its digest says: never decompressed on the way.
            headers={"User-Agent": user_agent, "Accept-Encoding": "identity"},
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=timeouts.connect, sock_read=timeouts.read
            ),
            read_bufsize=_PIECE,
            max_line_size=_HEADER,
            max_field_size=_HEADER,
        )

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request and follow redirects; its Authorization stays with the server it is for.

        Storage services refuse a request that has both a signed URL and an Authorization.
        """
        url, headers = request.url, dict(request.headers)
        for _hop in range(_MOST_REDIRECTS + 1):
            response = await self._hop(request, url, headers)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                return response
            await response.discard()
            target = onward(url, location)
            if origin(target) != origin(url):
                headers.pop("Authorization", None)
            url = target
        raise UpstreamError(f"redirects more than {_MOST_REDIRECTS} times")

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()

    async def _hop(
        self, request: UpstreamRequest, url: str, headers: dict[str, str]
    ) -> UpstreamResponse:
        begun = time.monotonic()
        try:
            raw = await self._session.request(
                request.method,
                # Encoded: a signed URL has to arrive as it was signed.
                URL(url, encoded=True),
                headers=headers,
                allow_redirects=False,
                ssl=self._trust.context(request.ca, alone=origin(url) == request.ca_origin),
                proxy=self._proxies.find(url),
            )
        except _BROKEN as error:
            explained = _explained(error, self._timeouts)
            seconds = time.monotonic() - begun
            _log.warning(
                "%s %s: %s, %.3f s", request.method, without_query(url), explained.reason, seconds
            )
            raise _naming(explained, url, request.url) from None
        seconds = time.monotonic() - begun
        _log.info("%s %s %d %.3f s", request.method, without_query(url), raw.status, seconds)
        return UpstreamResponse(raw, url, self._timeouts)


class _Resolver(aiohttp.ThreadedResolver):
    """The system's resolver, without addresses that only this host can reach."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        allowed = [one for one in found if not is_forbidden(one["host"])]
        if not allowed:
            raise OSError(f"{host} is a link-local address; this is refused")
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
    if isinstance(error, aiohttp.ClientConnectorError):
        return _not_connected(error)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return UpstreamError(f"the proxy refuses to connect: {error.status} {error.message}")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return UpstreamError(f"no connection within {timeouts.connect:g} s")
    if isinstance(error, asyncio.TimeoutError):
        return UpstreamError(f"no data for {timeouts.read:g} s")
    if isinstance(error, aiohttp.ClientResponseError):
        return UpstreamError("answers with something that is not HTTP")
    if isinstance(error, aiohttp.InvalidURL | UnicodeError):
        return UpstreamError("its URL has no valid host name")
    return UpstreamError("the connection broke", transient=True)


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
    if isinstance(cause, socket.gaierror):
        return UpstreamError(f"its host name {error.host} cannot be resolved ({cause.strerror})")
    # A server that hangs up during TLS leaves an error without any word.
    words = str(cause) or "the server ends the connection before it answers"
    reason = os.strerror(cause.errno).lower() if cause.errno else words
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return UpstreamError(f"the proxy {error.host}:{error.port}: {reason}", transient=True)
    return UpstreamError(reason, transient=True)
