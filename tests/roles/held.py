# SPDX-License-Identifier: Apache-2.0
"""A way to a registry on which what it sends is held up, until it is let go on."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.ports import free_port

_ESTABLISHED = "01"


class HeldWay:
    """Passes connections on; one that has brought so many bytes of answers waits for ``go``."""

    def __init__(self, to: int, after: int) -> None:
        self.port = free_port()
        self.go = threading.Event()
        self._waits = False
        self._to = to
        self._after = after
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def holds(self) -> bool:
        """Whether an answer waits."""
        return self._waits and not self.go.is_set()

    def run(self, server: socket.socket) -> None:
        """Accept connections until the socket is shut down."""
        with suppress(OSError):
            while True:
                near, _address = server.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._sockets += [near, far]
                for one, other, held in ((near, far, False), (far, near, True)):
                    thread = threading.Thread(target=self._pass_on, args=(one, other, held))
                    self._threads.append(thread)
                    thread.start()

    def _pass_on(self, one: socket.socket, other: socket.socket, held: bool) -> None:
        passed = 0
        with suppress(OSError):
            while piece := one.recv(1 << 16):
                passed += len(piece)
                if held and passed > self._after:
                    self._waits = True
                    self.go.wait()
                other.sendall(piece)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End all connections."""
        self.go.set()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()

    def users(self) -> set[int]:
        """Return the processes that have a connection to it."""
        found = set()
        wanted = {f"socket:[{inode}]" for inode in self._inodes()}
        for folder in Path("/proc").glob("[0-9]*/fd"):
            with suppress(OSError):
                held = {str(one.readlink()) for one in folder.iterdir()}
                found |= {int(folder.parent.name)} if held & wanted else set()
        return found

    def _inodes(self) -> Iterator[str]:
        """Yield the sockets of the other side."""
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            if re.search(f":{self.port:04X}$", words[2]) and words[3] == _ESTABLISHED:
                yield words[9]


@contextmanager
def held_way(to: int, after: int) -> Iterator[HeldWay]:
    """Pass connections on to a port of this machine."""
    way = HeldWay(to, after)
    with socket.create_server(("127.0.0.1", way.port)) as server:
        accepting = threading.Thread(target=way.run, args=(server,))
        accepting.start()
        try:
            yield way
        finally:
            server.shutdown(socket.SHUT_RDWR)
            accepting.join()
            way.close()
