# SPDX-License-Identifier: Apache-2.0
"""A stream of TLS on a socket, many records at a time.

``ssl.SSLSocket`` asks the kernel twice for each record of 16 KiB that it reads, and once for each
that it writes. Of a copy in one machine that was a sixth of the command's processor time.
"""

from __future__ import annotations

import io
import socket
import ssl
from contextlib import suppress
from typing import Any

#: Bytes that are taken from the socket, or given to it, at once.
_AT_ONCE = 128 << 10


class TlsStream:
    """A connected socket that speaks TLS; one thread at a time uses it."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        """Shake hands; the socket stays the caller's where that fails."""
        self._socket = sock
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._buffer = memoryview(bytearray(_AT_ONCE))
        self._tls = context.wrap_bio(self._received, self._to_send, server_hostname=host)
        try:
            self._handshake()
        except ssl.SSLError:
            with suppress(OSError):
                self._flush()  # the alert by which the other side learns of it
            raise

    def _handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
            else:
                self._flush()
                return

    def sendall(self, data: bytes | memoryview) -> None:
        """Send bytes."""
        view = memoryview(data).cast("B")
        while view:
            try:
                view = view[self._tls.write(view) :]
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
            if self._to_send.pending >= _AT_ONCE:
                self._flush()
        self._flush()

    def recv_into(self, buffer: Any) -> int:
        """Fill a buffer as far as there is something at hand, or else wait; 0 at the end."""
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view):
            try:
                size = self._tls.read(len(view) - filled, view[filled:])
            except ssl.SSLWantReadError:
                # An answer of TLS's own goes with what is sent next (RFC 8446, 4.6.3).
                if filled:
                    break
                self._receive()
                continue
            except ssl.SSLEOFError:
                break
            if not size:
                break
            filled += int(size)
        return filled

    def recv(self, size: int) -> bytes:
        """Return some bytes, none at the end."""
        buffer = bytearray(size)
        return bytes(buffer[: self.recv_into(buffer)])

    def makefile(self, _mode: str, buffering: int = 0) -> io.RawIOBase:
        """Return what reads from it, also when the connection has been closed meanwhile."""
        del buffering
        return _TlsInput(self, self._socket)

    def settimeout(self, seconds: float | None) -> None:
        """Wait so long for the other side, and no longer."""
        self._socket.settimeout(seconds)

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def shutdown(self, how: int) -> None:
        """End the connection of the socket, whoever waits at it."""
        self._socket.shutdown(how)

    def close(self) -> None:
        """Close the socket when nobody reads from it any more."""
        self._socket.close()

    def _flush(self) -> None:
        records = self._to_send.read()
        if records:
            self._socket.sendall(records)

    def _receive(self) -> None:
        size = self._socket.recv_into(self._buffer)
        if size:
            self._received.write(self._buffer[:size])
        else:
            self._received.write_eof()


class _TlsInput(io.RawIOBase):
    """The receiving side, which keeps the socket open."""

    def __init__(self, stream: TlsStream, sock: socket.socket) -> None:
        self._stream = stream
        self._held = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Say that it is one to read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is next."""
        return self._stream.recv_into(buffer)

    def close(self) -> None:
        """Let go of the socket."""
        self._held.close()
        super().close()
