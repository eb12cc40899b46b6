# SPDX-License-Identifier: Apache-2.0
"""A tunnel from loopback to another address, as socat is one."""

from __future__ import annotations

import shutil
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def to(host: str, port: int) -> Iterator[str]:
    """Listen on loopback and pass every connection on; yields the address to connect to."""

    class Passing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, port)) as there:
                back = threading.Thread(target=_pass, args=(there, self.request))
                back.start()
                _pass(self.request, there)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Passing) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def _pass(here: socket.socket, there: socket.socket) -> None:
    """Pass bytes on until there are none, and say so."""
    with suppress(OSError), here.makefile("rb", 0) as read, there.makefile("wb", 0) as written:
        shutil.copyfileobj(read, written)
    with suppress(OSError):
        there.shutdown(socket.SHUT_WR)
