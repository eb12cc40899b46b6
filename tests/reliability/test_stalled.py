# SPDX-License-Identifier: Apache-2.0
"""Clients that do not read, or hold many connections, take the registry from nobody."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.reliability import stalled
from tests.reliability.server import Client, Server, digest_of


def test_clients_that_do_not_read_are_ended(serve: Callable[..., Server]) -> None:
    """Six hundred of one address, of which 512 may be there; another one is served all along."""
    outcome = stalled.run(serve, 600, 3)
    print(outcome.figures)
    assert max(outcome.seconds) < 10
    assert outcome.peak - outcome.before < 350
    assert outcome.open_at_end <= stalled.FEW


def test_clients_that_do_not_read_a_large_manifest_share_it(serve: Callable[..., Server]) -> None:
    """The largest that there may be; a copy for each of them would be 600 MiB."""
    outcome = stalled.run(serve, 150, 2, stalled.push_manifest)
    print(outcome.figures)
    assert max(outcome.seconds) < 10
    assert outcome.peak - outcome.before < 200
    assert outcome.open_at_end <= stalled.FEW


def test_who_reads_slowly_is_not_ended(serve: Callable[..., Server]) -> None:
    """It takes something now and then, for longer than who takes nothing may stay."""
    server = serve(limits={"answer_seconds": 3})
    assert server.client().push_blob("app", stalled.BLOB).status == 201
    client = server.client(pull=True)
    client.connection.request("GET", f"/v2/app/blobs/{digest_of(stalled.BLOB)}")
    answer = client.connection.getresponse()
    got = b""
    for _number in range(8):
        got += answer.read(200_000)
        time.sleep(0.5)
    assert got + answer.read() == stalled.BLOB


def test_a_client_holds_no_more_connections_than_it_may(serve: Callable[..., Server]) -> None:
    """The idlest end, what moves stays, and another address does not notice."""
    server = serve(limits={"client_connections": 20})
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(contextlib.closing(Client(server.pull_port, server.context)))
        idle = [stack.enter_context(_idle(server)) for _number in range(60)]
        deadline = time.monotonic() + 60
        while sum(map(_ended, idle)) < 40:
            assert time.monotonic() < deadline
            with contextlib.closing(_elsewhere(server)) as other:
                assert other.ask("GET", "/v2/").status == 200
            assert busy.ask("GET", "/v2/").status in (200, 429)
            # A proxy, whose connections are all of them, takes nothing out that is well.
            assert busy.ask("GET", "/readyz").status == 200
        # Those of the harness, of ``busy`` and of the probes are of the same address.
        assert sum(map(_ended, idle)) < 60
    assert "hold too many: 127.0.0.1" in server.log.read_text()


def test_a_full_endpoint_makes_room(serve: Callable[..., Server]) -> None:
    """Of many addresses, each within its bound, which fill it together."""
    server = serve(limits={"connections": 40})
    with contextlib.ExitStack() as stack:
        for number in range(120):
            stack.enter_context(_idle(server, f"127.0.1.{number % 30 + 1}"))
        began = time.monotonic()
        with contextlib.closing(Client(server.pull_port, server.context)) as client:
            assert client.ask("GET", "/v2/").status == 200
        assert time.monotonic() - began < 10


def test_a_process_of_few_files_does_not_spin(serve: Callable[..., Server]) -> None:
    """Who cannot be accepted waits, without a processor at work; afterwards all goes on."""
    server = serve(below=("prlimit", "--nofile=1500:1500"))
    with contextlib.ExitStack() as stack:
        for _number in range(1400):
            stack.enter_context(_idle(server))
        time.sleep(2)
        before = _processor(server)
        time.sleep(2)
        assert _processor(server) - before < 0.6
    assert server.client().push_blob("app", b"later").status == 201


def _idle(server: Server, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.pull_port), 20, (source, 0))


def _elsewhere(server: Server) -> Client:
    client = Client(server.pull_port, server.context)
    client.connection = http.client.HTTPSConnection(
        "127.0.0.1",
        server.pull_port,
        context=server.context,
        timeout=60,
        source_address=("127.0.0.3", 0),
    )
    return client


def _ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _processor(server: Server) -> float:
    """Return the seconds of a processor that the server has had."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
