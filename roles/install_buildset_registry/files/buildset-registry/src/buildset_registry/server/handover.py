# SPDX-License-Identifier: Apache-2.0
"""The ports of a server that ends, for the one that follows: meanwhile connections wait.

The folder of a store belongs to one process, so the next server cannot begin before the last one
has ended. Whoever restarts it holds its listening sockets for as long as neither serves: what
connects then is not refused, but waits in the kernel until the next one accepts it. The sockets
travel as descriptors (SCM_RIGHTS of unix(7)): by the control socket from the server that is to end,
and by a socket beside it to the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from buildset_registry.config import Config
from buildset_registry.server.sockets import every_address, set_options
from buildset_registry.store import store_kind

#: The question of the control socket.
PORTS = "ports"
#: The address and the port that a socket is bound to.
Bound: TypeAlias = "tuple[str, int]"

_ASKED = json.dumps({PORTS: True}).encode() + b"\n"
#: A line of an answer, and descriptors; there are five listeners at most.
_LINE, _MOST = 4096, 16
#: Seconds that either end may take, on a machine that is busy with an upgrade.
_SECONDS = 30.0


def wanted(config: Config) -> dict[str, Bound]:
    """Return the addresses and ports of a configuration by the names of their listeners."""
    ends = config.endpoints
    listeners = {
        "pull": ends.pull,
        "push": ends.push,
        "single": ends.single,
        "metrics": config.metrics,
        "proxy": config.proxy,
    }
    return {
        name: (end.address or every_address(), end.port)
        for name, end in listeners.items()
        if end is not None
    }


def bound(listener: socket.socket) -> Bound:
    """Return the address and the port of a socket."""
    address, port = listener.getsockname()[:2]
    return str(address), int(port)


def send_ports(connection: int, listeners: Iterable[socket.socket]) -> None:
    """Send sockets through a connection, which is named by its descriptor."""
    numbers = [one.fileno() for one in listeners]
    with socket.socket(fileno=os.dup(connection)) as end:
        socket.send_fds(end, [json.dumps({PORTS: len(numbers)}).encode() + b"\n"], numbers)


class HeldPorts:
    """Listening sockets that nobody accepts from, until the next server has taken them."""

    def __init__(self, path: Path, listeners: Iterable[socket.socket]) -> None:
        self._path = path
        self._listeners = list(listeners)
        self._giving: socket.socket | None = None
        self._thread = threading.Thread(target=self._give, daemon=True)
        self._taken = threading.Event()

    @property
    def waiting(self) -> bool:
        """Tell whether there are some that have not been taken yet."""
        return self._giving is not None and not self._taken.is_set()

    def __enter__(self) -> HeldPorts:
        if self._listeners:
            try:
                self._giving = self._listen()
                self._thread.start()
            except OSError:  # such as on a full disk: then connections are refused meanwhile
                self._let_go()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of them; what nobody has taken is closed."""
        if self._giving is None:
            return
        with contextlib.suppress(OSError):
            self._giving.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._giving.close()
        self._giving = None
        self._path.unlink(missing_ok=True)
        self._let_go()

    def _listen(self) -> socket.socket:
        """Listen for the next server."""
        self._path.unlink(missing_ok=True)
        giving = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with short_name(self._path) as name:
                giving.bind(name)
            self._path.chmod(0o600)
            giving.listen(1)
        except OSError:
            giving.close()
            raise
        return giving

    def _give(self) -> None:
        """Send them to the first who asks: they are its own then, and end with it."""
        giving = self._giving
        while giving is not None and not self._taken.is_set():
            try:
                connection, _name = giving.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_SECONDS)
                send_ports(connection.fileno(), self._listeners)
                if connection.recv(1):  # it has them
                    self._let_go()
                    self._taken.set()

    def _let_go(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()


def hold_ports(config: Config) -> HeldPorts:
    """Return the sockets of the server that runs by a configuration, as far as that wants them.

    None where no server can be asked, or where it is of a version that does not give them.
    """
    control = store_kind(config).control_socket(config)
    if control is None:
        return HeldPorts(Path(), ())
    taken = _take(control, _ASKED)
    kept = set(wanted(config).values())
    for other in taken.keys() - kept:
        taken[other].close()
    return HeldPorts(_place(control), [taken[one] for one in taken.keys() & kept])


def take_ports(config: Config) -> dict[str, socket.socket]:
    """Return the sockets that somebody holds for this server, by the names of its listeners."""
    control = store_kind(config).control_socket(config)
    taken = {} if control is None else _take(_place(control), b"")
    found = {name: taken.pop(one) for name, one in wanted(config).items() if one in taken}
    for listener in taken.values():
        listener.close()
    for listener in found.values():
        set_options(listener, config.limits.answer_seconds)
    return found


def _take(path: Path, asked: bytes) -> dict[Bound, socket.socket]:
    """Receive sockets from whoever listens at a path; none where nobody does."""
    found: list[socket.socket] = []
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.settimeout(_SECONDS)
        with short_name(path) as name:
            end.connect(name)
        end.sendall(asked)
        _line, numbers, _flags, _address = socket.recv_fds(end, _LINE, _MOST)
        found = [socket.socket(fileno=number) for number in numbers]
        end.sendall(b"\n")
    return {bound(one): one for one in found}


def _place(control: Path) -> Path:
    return control.with_name(PORTS)


@contextlib.contextmanager
def short_name(path: Path) -> Iterator[str]:
    """Yield a name of a file that is short wherever its folder is: unix(7) takes 107 bytes."""
    folder = os.open(path.parent, os.O_PATH)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
