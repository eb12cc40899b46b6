# SPDX-License-Identifier: Apache-2.0
"""The memory of a registry whose pushes a service of objects is slow to take."""

from __future__ import annotations

import re
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.stores.fixtures import ObjectStores
from tests.stores.replicas import PASSWORD, USER, Replica, Replicas
from tests.waiting import wait_until

CLIENTS = 20
MIB = 1024 * 1024
SIZE = 1024 * MIB
#: MiB: 140 were seen, and 214 with pieces of 1 MiB and 48 MiB of parts.
MOST = 160
#: More than the kernel has room for: who has sent it is in the middle of a part.
BEGUN = 12 * MIB
#: Looks at which nobody has sent more, so that everybody waits.
LOOKS = 20
LOGIN = b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Gate:
    """A port in front of a server, through which nothing passes while it is shut."""

    def __init__(self, server: str) -> None:
        self._target = ("127.0.0.1", int(server.rpartition(":")[2]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._passing: list[socket.socket] = []
        self._open = threading.Event()
        self._open.set()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Let nothing pass."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def close(self) -> None:
        """End all connections, and let nobody else in."""
        for one in (self._listener, *self._passing):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(self._target)
                self._passing += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(MIB):
                self._open.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


class Pusher:
    """A client in the middle of a PATCH."""

    def __init__(self, replica: Replica) -> None:
        place = replica.client.post("/v2/org/app/blobs/uploads/").headers["Location"]
        port = replica.client.base_url.port or 0
        self.connection = socket.create_connection(("127.0.0.1", port))
        head = f"PATCH {place} HTTP/1.1\r\nHost: registry\r\nAuthorization: Basic {LOGIN}\r\n"
        self.connection.sendall(f"{head}Content-Length: {SIZE}\r\n\r\n".encode())
        self.sent = 0

    def close(self) -> None:
        """Leave."""
        self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def push(self) -> None:
        """Send until the connection is closed."""
        with suppress(OSError):
            while self.sent < SIZE:
                self.sent += self.connection.send(bytes(min(MIB, SIZE - self.sent)))


def memory(replica: Replica) -> float:
    """Return the most that a registry has had, in MiB."""
    status = Path(f"/proc/{replica.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def test_twenty_pushes_at_once_have_a_bound_of_memory(
    tmp_path: Path, object_stores: ObjectStores
) -> None:
    """However large they are: the service takes nothing, so that all there is room for is full."""
    minio = object_stores.minio
    gate = Gate(minio.url)
    stored = {"s3": minio.settings(minio.bucket(), regionendpoint=gate.url)}
    with ExitStack() as stack:
        stack.callback(gate.close)
        replica = stack.enter_context(Replicas(tmp_path, stored).one())
        pushers = [Pusher(replica) for _ in range(CLIENTS)]
        pool = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        for pusher in pushers:
            stack.callback(pusher.close)
            pool.submit(pusher.push)
        wait_until(lambda: min(pusher.sent for pusher in pushers) > BEGUN)
        stack.enter_context(gate.shut())
        seen: list[int] = []

        def stopped() -> bool:
            seen.append(sum(pusher.sent for pusher in pushers))
            return len(seen) > LOOKS and len(set(seen[-LOOKS:])) == 1

        wait_until(stopped)
        assert max(pusher.sent for pusher in pushers) < SIZE
        assert memory(replica) < MOST
