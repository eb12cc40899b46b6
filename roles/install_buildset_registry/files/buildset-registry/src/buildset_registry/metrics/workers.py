# SPDX-License-Identifier: Apache-2.0
"""The metrics of several workers at one port: whichever of them is asked asks the others.

A process counts for itself, and the kernel gives a scrape to any of them. Each worker has a socket
in the abstract namespace (unix(7): no file is left by a kill) at which it tells its numbers as
JSON; whoever is on the machine may connect there, so other users are told nothing. A series has a
label ``worker``, and is not added up: a sum that falls because one process was started again would
be taken for the start of all of them.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import asdict

from buildset_registry.metrics.prometheus import Metric, counter

#: Seconds for an answer; a worker that is first asked for the size of the store takes two.
_SECONDS = 4.0
_BACKLOG = 16
#: What all workers would tell alike.
_OF_THE_STORE = "storage_"
_STATE = struct.Struct("=?xxxI")
#: What SO_PEERCRED tells: process, user, group.
_PEER = struct.Struct("3i")

Tell = Callable[[], Awaitable[Sequence[Metric]]]


class WorkerStates:
    """The state of each worker as their parent knows it; in memory that all of them share."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._memory = mmap.mmap(-1, number * _STATE.size)

    def serves(self, worker: int) -> bool:
        """Tell whether a worker runs and has begun to serve."""
        return bool(self._read(worker)[0])

    def restarts(self, worker: int) -> int:
        """Return how often it had to be started again."""
        return int(self._read(worker)[1])

    def begin(self, worker: int) -> None:
        """Note that it serves; told by itself."""
        self._write(worker, True, self.restarts(worker))

    def end(self, worker: int) -> None:
        """Note that it has ended."""
        self._write(worker, False, self.restarts(worker))

    def restart(self, worker: int) -> None:
        """Note that it has to be started again."""
        self._write(worker, False, self.restarts(worker) + 1)

    def _read(self, worker: int) -> tuple[bool, int]:
        serves, restarts = _STATE.unpack_from(self._memory, worker * _STATE.size)
        return serves, restarts

    def _write(self, worker: int, serves: bool, restarts: int) -> None:
        _STATE.pack_into(self._memory, worker * _STATE.size, serves, restarts)


class Siblings:
    """All workers of a registry, as one of them asks them, itself included."""

    def __init__(self, own: int, sockets: Sequence[socket.socket], states: WorkerStates) -> None:
        self._own = own
        self._sockets = sockets
        self._states = states
        self._server: asyncio.Server | None = None

    @property
    def first(self) -> bool:
        """Tell whether this is the one that does what one has to do for all."""
        return self._own == 0

    async def listen(self, tell: Tell) -> None:
        """Answer the others from now on."""

        async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                if _is_ours(writer):
                    writer.write(json.dumps([_tree(one) for one in await tell()]).encode())
                    await writer.drain()
            except ConnectionError:
                pass  # who asked has given up
            finally:
                writer.close()

        self._server = await asyncio.start_unix_server(answer, sock=self._sockets[self._own])

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()

    async def metrics(self) -> Iterator[Metric]:
        """Return those of all workers that answer, and what is known of the others."""
        serving = [one for one in range(self._states.number) if self._states.serves(one)]
        told = await asyncio.gather(*map(self._ask, serving))
        found = dict(zip(serving, told, strict=True))
        return merged(
            {worker: metrics for worker, metrics in found.items() if metrics}, self._known
        )

    async def _ask(self, worker: int) -> list[Metric]:
        """Return what a worker tells; nothing where it does not."""
        address = self._sockets[worker].getsockname()
        try:
            answer = json.loads(await asyncio.wait_for(_read(address), _SECONDS))
        except (OSError, asyncio.TimeoutError, ValueError):
            return []
        return [Metric(**tree) for tree in answer]

    def _known(self, answered: Iterable[int]) -> Iterator[Metric]:
        workers = range(self._states.number)
        here = set(answered)
        up = [({"worker": worker}, int(worker in here)) for worker in workers]
        yield Metric("worker_up", "gauge", "Whether a worker serves.", up)
        restarts = [({"worker": worker}, self._states.restarts(worker)) for worker in workers]
        yield counter("worker_restarts_total", "Workers that were started again.", restarts)


def _is_ours(writer: asyncio.StreamWriter) -> bool:
    """Tell whether who connected is of the user whose registry it is."""
    connection = writer.get_extra_info("socket")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return bool(_PEER.unpack(raw)[1] == os.geteuid())


async def _read(address: bytes) -> bytes:
    # uvloop takes such an address for that of a file. Nobody waits for this: there is room, or not.
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with connection:
        connection.connect(address)
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        try:
            return await reader.read()
        finally:
            writer.close()


def open_sockets(number: int) -> list[socket.socket]:
    """Return the sockets of the workers, which have names of the kernel's choice."""
    made = []
    for _worker in range(number):
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.bind("")
        one.listen(_BACKLOG)
        made.append(one)
    return made


def merged(
    told: dict[int, list[Metric]], known: Callable[[Iterable[int]], Iterable[Metric]]
) -> Iterator[Metric]:
    """Yield the metrics of all workers, those of one name together, as Prometheus wants them."""
    by_name: dict[str, list[Metric]] = {}
    for worker, metrics in told.items():
        for one in metrics:
            by_name.setdefault(one.name, []).append(_labelled(one, worker))
    for several in by_name.values():
        yield from several
    yield from known(told)


def _labelled(metric: Metric, worker: int) -> Metric:
    if metric.name.startswith(_OF_THE_STORE):
        return metric
    values = [({**labels, "worker": worker}, value) for labels, value in metric.values]
    return Metric(metric.name, metric.kind, metric.help, values, metric.suffix)


def _tree(metric: Metric) -> dict[str, object]:
    return asdict(metric) | {"values": list(metric.values)}
