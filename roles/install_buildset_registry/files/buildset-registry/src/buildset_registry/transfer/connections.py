# SPDX-License-Identifier: Apache-2.0
"""One HTTP connection: through a proxy where there is one, by TLS, and with an ear for an answer
that comes before the whole request has been sent.
"""

from __future__ import annotations

import http.client
import io
import math
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from ..protocol.tokens import basic
from ..protocol.urls import Origin
from .errors import TransferError
from .tls_stream import TlsStream

#: Seconds in which a server has to take or send something.
TIMEOUT = 60.0
CONNECT_TIMEOUT = 20.0
#: Bytes of a body in memory that are sent at once.
_SLICE = 64 << 10
#: Seconds in which an answer has to be whole that is no blob's; a byte now and then is none.
ANSWER_SECONDS = 300.0
#: What sends blobs.
_UPLOADS = frozenset({"PATCH", "PUT"})
#: Answers of a proxy that it may not give a second time.
_PASSING = frozenset({502, 503, 504})
Body: TypeAlias = "bytes | Iterable[bytes | memoryview]"


@dataclass(frozen=True)
class Way:
    """The way to an origin."""

    to: Origin
    proxy: str | None
    address: str
    """What to connect to; the certificate is that of the origin's host."""

    tls: Callable[[], ssl.SSLContext]


class RegistryConnection(http.client.HTTPConnection):
    """A connection to an origin, through a proxy where the environment names one."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.scheme, host, port = way.to
        self.proxy = way.proxy
        super().__init__(host, port, timeout=TIMEOUT)
        self.default_port = 443 if self.scheme == "https" else 80
        self.ended = False
        """Whether nobody wants it opened any more."""

        self.here = False
        """Whether it leads to this machine, found when it is opened."""

        self._deadline = math.inf
        self._answer_with(b"")

    def limit_answer(self, seconds: float) -> None:
        """Give up what is read of the answer later than in so many seconds."""
        self._deadline = time.monotonic() + seconds

    def expect_answer(self, method: str) -> None:
        """Wait for the answer to what was sent: to that of an upload as long as for a whole answer,
        since proxies pass on what they have received as a whole, and registries on object stores
        may copy the blob before they answer."""
        self.limit_answer(ANSWER_SECONDS)
        if self.sock is not None:
            self.sock.settimeout(ANSWER_SECONDS if method in _UPLOADS else TIMEOUT)

    def read_into(self, stream: io.RawIOBase, buffer: Any) -> int | None:
        """Read what is next of the answer, if there is time left."""
        if time.monotonic() > self._deadline:
            raise TimeoutError("its answer takes too long")
        return stream.readinto(buffer)

    @property
    def absolute(self) -> bool:
        """Whether requests name the whole URL: to a proxy, without TLS."""
        return self.proxy is not None and self.scheme == "http"

    def connect(self) -> None:
        """Open the connection, and speak TLS on it where the scheme says so."""
        context = self.way.tls() if self.scheme == "https" else None
        self.sock = self._open()
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.proxy is not None and self.scheme == "https":
                self._tunnel_through(self.proxy)
            if context is not None:
                secure: Any = TlsStream(self.sock, context, self.host)
                self.sock = secure
        except BaseException:
            self.close()
            raise

    def watched(self, body: bytes | Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        """Yield a body in pieces until the server answers: it wants no more of it."""
        for piece in _cut(body) if isinstance(body, bytes) else body:
            if self._answered():
                raise AnsweredError
            yield piece

    def _answered(self) -> bool:
        """Tell whether an answer has begun to arrive; what TLS says of itself is none."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        if not poll.poll(0):
            return False
        self.sock.settimeout(0)
        try:
            first = self.sock.recv(1)
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        finally:
            self.sock.settimeout(TIMEOUT)
        if not first:
            raise ConnectionResetError("the server has left")
        self._answer_with(first)
        return True

    def _answer_with(self, first: bytes) -> None:
        """Have the next answer begin with what was read of it already."""
        answer: Any = partial(_response_after, self, first)
        self.response_class = answer

    def _open(self) -> socket.socket:
        if self.proxy is not None:
            opened = self._reach_proxy(self.proxy)
        else:
            opened = self._reach(self.way.address, self.port)
        opened.settimeout(TIMEOUT)
        own, other = opened.getsockname()[0], opened.getpeername()[0]
        self.here = self.proxy is None and own == other
        return opened

    def _reach(self, host: str, port: int) -> socket.socket:
        """Connect to the first address of a host that takes us; the socket is ours meanwhile, so
        that whoever closes the connection ends that, too."""
        failed = OSError("it has no address")
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _canonical, place in found:
            try:
                opened = self.sock = socket.socket(family, kind, protocol)
                if self.ended:  # who says so closes the socket that there is, and no later one
                    raise OSError("it was given up")
                opened.settimeout(CONNECT_TIMEOUT)
                opened.connect(place)
            except OSError as error:
                failed = error
                self.close()
            else:
                return opened
        raise failed

    def _reach_proxy(self, proxy: str) -> socket.socket:
        """Connect to a proxy; who cannot is told of it, and not of the registry behind it."""
        parts = urlsplit(proxy)
        try:
            return self._reach(parts.hostname or "", parts.port or 80)
        except OSError as error:
            unknown = isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN
            what = f"cannot be reached ({error.strerror or error})"
            raise _lacking_proxy(proxy, what, passing=not unknown) from None

    def _tunnel_through(self, proxy: str) -> None:
        """Ask the proxy for a tunnel (RFC 9110, 9.3.6)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        target = f"{host}:{self.port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        lines += [f"{name}: {value}" for name, value in proxy_headers(proxy).items()]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        answer = http.client.HTTPResponse(self.sock, method="CONNECT")
        try:
            answer.begin()
        finally:
            answer.close()
        if answer.status != 200:
            what = f"answers {answer.status} to a tunnel to {target}"
            raise _lacking_proxy(proxy, what, passing=answer.status in _PASSING)


def _lacking_proxy(proxy: str, what: str, *, passing: bool) -> TransferError:
    name = urlsplit(proxy).netloc.rpartition("@")[2]
    words = f"the proxy {name} {what}; see HTTPS_PROXY and NO_PROXY"
    return TransferError(words, transient=passing)


def _cut(body: bytes) -> Iterator[memoryview]:
    """Yield a body in pieces: what is sent at once has to be gone in ``TIMEOUT``, however long the
    way takes, and however many share it."""
    view = memoryview(body)
    for start in range(0, len(view), _SLICE):
        yield view[start : start + _SLICE]


class AnsweredError(Exception):
    """An answer has come before the body was sent."""


class _Joined(io.RawIOBase):
    """A socket's stream, with what was read of it already."""

    def __init__(self, connection: RegistryConnection, first: bytes, rest: io.RawIOBase) -> None:
        self._connection = connection
        self._first = first
        self._rest = rest

    def readable(self) -> bool:
        """Say that it is one to read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what is next."""
        if self._first:
            buffer[:1], self._first = self._first, b""
            return 1
        return self._connection.read_into(self._rest, buffer)

    def close(self) -> None:
        """Close the stream."""
        self._rest.close()
        super().close()


class _Begun:
    """A socket whose first byte may have been read."""

    def __init__(self, connection: RegistryConnection, first: bytes, sock: socket.socket) -> None:
        self._connection = connection
        self._first = first
        self._sock = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the stream, from its beginning."""
        raw: Any = self._sock.makefile("rb", buffering=0)
        return io.BufferedReader(_Joined(self._connection, self._first, raw))


def _response_after(
    connection: RegistryConnection, first: bytes, sock: Any, **more: Any
) -> http.client.HTTPResponse:
    begun: Any = _Begun(connection, first, sock)
    return http.client.HTTPResponse(begun, **more)


def proxy_headers(proxy: str) -> dict[str, str]:
    """Return what logs in at a proxy whose URL has a user."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    pair = basic(unquote(parts.username), unquote(parts.password or ""))
    return {"Proxy-Authorization": pair}
