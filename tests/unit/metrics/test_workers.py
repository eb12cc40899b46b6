# SPDX-License-Identifier: Apache-2.0
"""The metrics of several workers at one port."""

import asyncio
import os
import socket
from collections.abc import Sequence

import pytest
from buildset_registry.metrics.prometheus import Metric, counter, gauge, render
from buildset_registry.metrics.workers import Siblings, WorkerStates, open_sockets


async def test_one_worker_tells_of_all() -> None:
    """Each series has its worker; what is the store's has none; one that has died is down."""
    states, sockets = WorkerStates(3), open_sockets(3)
    workers = [Siblings(number, sockets, states) for number in range(3)]

    async def tell() -> Sequence[Metric]:
        return [
            counter("hits_total", "Hits.", [({"kind": "blob"}, 2)]),
            gauge("storage_x", "X.", 1),
        ]

    for worker in workers[:2]:
        await worker.listen(tell)
    for number in range(3):
        states.begin(number)
    states.restart(2)
    lines = render(await workers[1].metrics()).splitlines()
    for worker in workers:
        worker.close()
    for one in sockets:
        one.close()
    assert [line for line in lines if "hits_total{" in line] == [
        'buildset_registry_hits_total{kind="blob",worker="0"} 2',
        'buildset_registry_hits_total{kind="blob",worker="1"} 2',
    ]
    assert "buildset_registry_storage_x 1" in lines
    assert 'buildset_registry_worker_up{worker="1"} 1' in lines
    assert 'buildset_registry_worker_up{worker="2"} 0' in lines
    assert 'buildset_registry_worker_restarts_total{worker="2"} 1' in lines


async def test_other_users_of_the_machine_are_told_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name without a file has no mode: whoever finds it in /proc/net/unix may connect."""
    states, sockets = WorkerStates(1), open_sockets(1)
    worker = Siblings(0, sockets, states)
    states.begin(0)

    async def tell() -> Sequence[Metric]:
        return [gauge("told", "Told.", 1)]

    await worker.listen(tell)
    alone = "buildset_registry_told" in render(await worker.metrics())
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    connection.connect(sockets[0].getsockname())
    told = await asyncio.get_running_loop().sock_recv(connection, 1024)
    worker.close()
    for one in (connection, *sockets):
        one.close()
    assert (alone, told) == (True, b"")
