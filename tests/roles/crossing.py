# SPDX-License-Identifier: Apache-2.0
"""Ways from the network of a lab to servers of the machine; what goes through them is counted."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_NETWORK = 0x40000000
_LOCAL = "127.0.0.1"
_PIECE = 1 << 16


@dataclass
class Crossing:
    """The bytes that came from each port, and those that were sent there."""

    received: Counter[int] = field(default_factory=Counter)
    sent: Counter[int] = field(default_factory=Counter)
    _ends: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def sums(self, names: dict[int, str]) -> dict[str, int]:
        """Tell the bytes both ways of each."""
        return {name: self.received[port] + self.sent[port] for port, name in names.items()}

    def lines(self, names: dict[int, str]) -> list[str]:
        """Tell them in lines, and begin to count anew."""
        told = [
            f"    {name}: {self.received.pop(port, 0):,} bytes from it, "
            f"{self.sent.pop(port, 0):,} to it"
            for port, name in names.items()
            if self.received[port]
        ]
        self.received.clear()
        self.sent.clear()
        return told

    def start(self, function: object, *words: object) -> None:
        """Run a function in a thread that ends with the crossing."""
        thread = threading.Thread(target=function, args=words, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def serve(self, server: socket.socket, port: int) -> None:
        """Join each connection with one to the port."""
        self._ends.append(server)
        with suppress(OSError):
            while True:
                near, _address = server.accept()
                far = socket.create_connection((_LOCAL, port))
                self._ends += [near, far]
                self.start(_pump, near, far, self.sent, port)
                self.start(_pump, far, near, self.received, port)

    def close(self) -> None:
        """End all connections."""
        for end in list(self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in list(self._threads):
            thread.join(10)


def _pump(near: socket.socket, far: socket.socket, count: Counter[int], port: int) -> None:
    with suppress(OSError):
        while piece := near.recv(_PIECE):
            far.sendall(piece)
            count[port] += len(piece)
        far.shutdown(socket.SHUT_WR)


def _listen(network: int, ports: Iterable[int], servers: list[socket.socket]) -> None:
    """Listen in the network of a process: a socket belongs where its thread was."""
    library = ctypes.CDLL(None, use_errno=True)
    namespace = os.open(f"/proc/{network}/ns/net", os.O_RDONLY)
    try:
        if library.setns(namespace, _NETWORK):
            raise OSError(ctypes.get_errno(), "setns")
        servers += [socket.create_server((_LOCAL, port)) for port in ports]
    finally:
        os.close(namespace)


@contextmanager
def crossing(network: int, ports: Iterable[int]) -> Iterator[Crossing]:
    """Have ports of the machine's loopback be ports of that of a network, named by a process."""
    made, servers, wanted = Crossing(), list[socket.socket](), list(ports)
    listening = threading.Thread(target=_listen, args=(network, wanted, servers))
    listening.start()
    listening.join()
    for server, port in zip(servers, wanted, strict=True):
        made.start(made.serve, server, port)
    try:
        yield made
    finally:
        made.close()
