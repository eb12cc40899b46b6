# SPDX-License-Identifier: Apache-2.0
"""HTTP by the standard library: connections that are kept, TLS, proxies, and bodies as streams.

Any number of threads may use a client at once; each request has a connection for itself.
"""

from __future__ import annotations

import http.client
import math
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from email.message import Message
from types import MappingProxyType
from urllib.parse import urlsplit

from ..protocol.content_coding import content_coding, decoded
from ..protocol.errors import UpstreamError
from ..protocol.proxy_env import ProxyEnvironment
from ..protocol.urls import Origin, origin, server
from .connections import AnsweredError, Body, RegistryConnection, Way, proxy_headers
from .errors import TransferError

#: Bytes that are read and sent at once: what the processor's own memory holds for some threads.
PIECE = 256 << 10
#: The first ones are smaller, so that both ends find out at the same time how much the way takes.
_FIRST_PIECE = 16 << 10
#: Seconds in which a kept connection is good for a body that cannot be sent a second time: no
#: server closes them so soon.
_RECENT = 2.0
_AGENT = "buildset-registry"
_CODING = "Content-Encoding"
_NO_ADDRESSES: Mapping[str, str] = MappingProxyType({})


class Reply:
    """An answer whose body is still to be read; after the last byte its connection is kept."""

    def __init__(self, url: str, response: http.client.HTTPResponse, client: HttpClient) -> None:
        self.url = url
        self.status = response.status
        self.headers: Message = response.headers
        self._response = response
        self._client = client
        self._connection: RegistryConnection | None = None

    def attach(self, connection: RegistryConnection) -> None:
        """Give the connection back when the body has been read."""
        self._connection = connection
        if self._response.isclosed():
            self._finish()

    @property
    def length(self) -> int | None:
        """The bytes that are still to come, where the answer tells."""
        return self._response.length

    def read(self, limit: int) -> bytes:
        """Return the whole document, also unpacked; ``TransferError`` where that is too large."""
        try:
            raw = self._response.read(limit + 1)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise broken(self.url, error) from None
        if len(raw) > limit:
            self.close()
            raise TransferError(f"{server(self.url)} answers with more than {limit:,} bytes")
        if self._response.length:
            self.close()
            raise TransferError(f"{server(self.url)} ended its answer early", transient=True)
        self._finish()
        try:
            return decoded(raw, content_coding({_CODING: self.headers.get(_CODING, "")}), limit)
        except UpstreamError as error:
            raise TransferError(f"{server(self.url)} {error.reason}") from None

    def pieces(self) -> Iterator[memoryview]:
        """Yield the body in pieces, each valid until the next one."""
        buffer = memoryview(bytearray(min(PIECE, self._response.length or PIECE)))
        if self._connection is not None:
            self._connection.limit_answer(math.inf)
        try:
            # All that has come with the headers; what follows is not in http.client's buffer.
            yield memoryview(self._response.read1(PIECE))
            wanted = _FIRST_PIECE
            while size := self._fill(buffer[:wanted]):
                yield buffer[:size]
                wanted = min(2 * wanted, PIECE)
        except (OSError, http.client.HTTPException) as error:
            raise broken(self.url, error) from None
        else:
            if self._response.length:
                raise TransferError(f"{server(self.url)} ended its answer early", transient=True)
            self._finish()
        finally:
            self.close()

    def _fill(self, buffer: memoryview) -> int:
        """Read the next bytes, past the layers of http.client where it does not count them.

        A connection that ends with the answer has no socket any more, the answer alone has one.
        """
        response, connection = self._response, self._connection
        sock = connection.sock if connection is not None else None
        if response.chunked or not response.length or sock is None:
            return response.readinto(buffer)
        buffer = buffer[: response.length]
        filled = 0
        while filled < len(buffer) and (size := sock.recv_into(buffer[filled:])):
            filled += size
        response.length -= filled
        return filled

    def discard(self) -> None:
        """Read what is left if that is little, so that the connection can be used again."""
        with suppress(TransferError):
            self.read(64 * 1024)

    def close(self) -> None:
        """End the connection, unless everything has been read."""
        if self._connection is not None:
            self._response.close()
            self._client.end(self._connection)
            self._connection = None

    def _finish(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._response.close()
            if self._response.will_close:
                self._client.end(connection)
            else:
                self._client.keep(connection)


class HttpClient:
    """Sends requests; keeps the connections that can be used again."""

    def __init__(
        self,
        ca: str | None = None,
        addresses: Mapping[str, str] = _NO_ADDRESSES,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.addresses = addresses
        self._ca = ca
        self._proxies = ProxyEnvironment(os.environ if environment is None else environment)
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[tuple[RegistryConnection, float]]] = {}
        self._open: set[RegistryConnection] = set()
        # Those that close what they have just used, and do not say so.
        self._hasty: set[Origin] = set()
        # Those that are on this machine.
        self._here: set[Origin] = set()
        self._closed = False
        # A CA that is none is told at once. The system's take a while to load: they are tried where
        # the one that is named is not enough.
        self._named = _context(ca) if ca is not None else None
        self._tls = self._named

    @property
    def tls(self) -> ssl.SSLContext:
        """What trusts the authority that was named, or else the system's, or both."""
        with self._lock:
            if self._tls is None:
                self._tls = _context(self._ca, system=True)
            return self._tls

    def _way(self, to: Origin) -> Way:
        address = self.addresses.get(to[1], to[1])
        return Way(to, self._proxy_of(to), address, lambda: self.tls)

    def _proxy_of(self, to: Origin) -> str | None:
        scheme, host, port = to
        name = f"[{host}]" if ":" in host else host
        if host in self.addresses:
            return None
        try:
            proxy = self._proxies.find(f"{scheme}://{name}:{port}")
        except UpstreamError as error:
            raise TransferError(error.reason) from None
        if proxy is not None and urlsplit(proxy).scheme == "https":
            raise TransferError(
                f"the proxy {server(proxy)} is spoken to by TLS, which copy cannot; "
                "set HTTPS_PROXY to its http:// URL"
            )
        return proxy

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None = None
    ) -> Reply:
        """Send a request and return the answer, whatever its status.

        A kept connection may have been closed by the other side; a request whose body can be sent
        again is tried on a new one, and another one takes a connection that was just used.
        """
        to = origin(url)
        again = body is None or isinstance(body, bytes)
        while True:
            connection = self._take(to, math.inf if again else self._recent(to))
            fresh = connection is None
            if connection is None:
                connection = self._new(to)
            try:
                return self._exchange(connection, method, url, headers, body)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.end(connection)
                if (told := _unsendable(url, error)) is not None:
                    raise told from None
                late = isinstance(error, TimeoutError)  # that server is there, and has the request
                if not fresh and not late:
                    self._hasty.add(to)
                if fresh or late or not again:
                    raise broken(url, error) from None
            except BaseException:
                self.end(connection)
                raise

    def _exchange(
        self,
        connection: RegistryConnection,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
    ) -> Reply:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **headers}
        if connection.absolute:
            target = f"{parts.scheme}://{parts.netloc}{target}"
            sent |= proxy_headers(connection.proxy or "")
        if isinstance(body, bytes):
            sent["Content-Length"] = str(len(body))
        if body is not None:
            body = connection.watched(body)
        early = False
        self._connect(connection)
        try:
            connection.request(method, target, body=body, headers=sent)
        except (AnsweredError, BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            # A server that refuses a body may answer before it closes (RFC 9112, 9.5).
            if body is None or connection.sock is None:
                raise
            early = True
        connection.expect_answer(method)
        response = connection.getresponse()
        response.will_close |= early
        reply = Reply(url, response, self)
        reply.attach(connection)
        return reply

    def _connect(self, connection: RegistryConnection) -> None:
        """Connect where that was not done; ``close`` ends what is connected, and nothing later."""
        if connection.sock is not None:
            return
        trusted = self._tls
        try:
            connection.connect()
        except ssl.SSLCertVerificationError:
            if trusted is None or trusted is not self._named:
                raise
            with self._lock:
                if self._tls is trusted:
                    self._tls = None
            connection.connect()
        with self._lock:
            if connection.here:
                self._here.add(connection.way.to)
            if self._closed:
                raise TransferError("the copy was stopped")

    def here(self, url: str) -> bool:
        """Tell whether what was reached at a URL is on this machine."""
        return origin(url) in self._here

    def _new(self, to: Origin) -> RegistryConnection:
        connection = RegistryConnection(self._way(to))
        with self._lock:
            if self._closed:
                raise TransferError("the copy was stopped")
            self._open.add(connection)
        return connection

    def _recent(self, to: Origin) -> float:
        return -1.0 if to in self._hasty else _RECENT

    def _take(self, to: Origin, age: float) -> RegistryConnection | None:
        """Return the connection that was used last, unless that is longer ago."""
        with self._lock:
            idle = self._idle.get(to)
            if not idle or time.monotonic() - idle[-1][1] > age:
                return None
            return idle.pop()[0]

    def open_ahead(self, url: str, most: int) -> None:
        """Open a connection that will be wanted, unless there are so many; where that fails,
        whoever wants it tells."""
        to = origin(url)
        with self._lock:
            if sum(one.way.to == to for one in self._open) >= most:
                return
        with suppress(OSError, http.client.HTTPException, TransferError):
            connection = self._new(to)
            try:
                self._connect(connection)
            except BaseException:
                self.end(connection)
                raise
            self.keep(connection)

    def keep(self, connection: RegistryConnection) -> None:
        """Take back a connection that is at the end of an answer."""
        with self._lock:
            self._idle.setdefault(connection.way.to, []).append((connection, time.monotonic()))

    def end(self, connection: RegistryConnection) -> None:
        """Close a connection."""
        connection.close()
        with self._lock:
            self._open.discard(connection)

    def close(self) -> None:
        """Close all connections, also those that threads wait at."""
        with self._lock:
            self._closed = True
            opened, self._open = list(self._open), set()
            self._idle.clear()
        for connection in opened:
            connection.ended = True
            reached = connection.sock
            if reached is not None:
                with suppress(OSError):
                    reached.shutdown(socket.SHUT_RDWR)
            connection.close()


def _context(ca: str | None, *, system: bool = False) -> ssl.SSLContext:
    """Return what trusts a CA, and ``system``, the system's as well; these alone without a CA."""
    try:
        if ca == "":  # which would stand for the system's
            raise ValueError
        context = ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError):
        raise TransferError(
            "the CA to trust is no certificate in PEM; it begins with -----BEGIN CERTIFICATE-----"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if system and ca is not None:
        context.load_default_certs()
    return context


def _unsendable(url: str, error: Exception) -> TransferError | None:
    """Return what cannot be sent, None where that is not it.

    Its own words would have the signature in an address, or a login.
    """
    address = isinstance(error, UnicodeError | http.client.InvalidURL)
    if isinstance(error, OSError | http.client.HTTPException) and not address:
        return None  # that of a certificate is a ValueError, too
    if not address or getattr(error, "encoding", "") == "latin-1":
        return TransferError(
            f"{server(url)}: the login for it has characters that no header may have; log in again"
        )
    return TransferError(f"{url.partition('?')[0][:160]!a} is no address that can be asked")


def broken(url: str, error: Exception) -> TransferError:
    """Return what a failed connection means, and whether to try again."""
    name = server(url)
    if isinstance(error, ssl.SSLCertVerificationError):
        return TransferError(
            f"{name}: its certificate is not trusted ({error.verify_message}); "
            "name its CA by --source-ca or --dest-ca"
        )
    if isinstance(error, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(error):
        return TransferError(
            f"{name} speaks no TLS; write http://{name}/... if that is what is meant"
        )
    if isinstance(error, socket.gaierror):
        told = f"{name}: its name has no address ({error.strerror})"
        return TransferError(told, transient=error.errno == socket.EAI_AGAIN)
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, OSError):
        return TransferError(
            f"{name} answers with what is not HTTP; check its port, and whether it speaks TLS",
            transient=True,
        )
    reason = error.strerror if isinstance(error, OSError) else None
    words = reason or str(error) or type(error).__name__
    return TransferError(f"{name}: {words}", transient=True)
