# SPDX-License-Identifier: Apache-2.0
"""The proxy for docker under clients that do not read, and under one that reads all it can."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tests.api.proxy import NAME, ProxyClient
from tests.ports import free_port
from tests.reliability.server import MIB, Server, digest_of

BLOB = os.urandom(256 * MIB)
URL = f"https://{NAME}/v2/app/blobs/{digest_of(BLOB)}"
#: Clients that do not read, and MiB that each may take: what sockets hold is not among them.
SLOW = 8
EACH = 4


@pytest.fixture
def proxied(
    serve: Callable[..., Server], tmp_path: Path, authority: trustme.CA
) -> tuple[Server, ProxyClient]:
    """A registry that stands for another one, which has a large blob."""
    folder, port = tmp_path / "registry", free_port()
    folder.mkdir()
    leaf = authority.issue_cert(NAME)
    leaf.private_key_and_cert_chain_pem.write_to_path(folder / "proxy.pem")
    tls = {"certificate": "proxy.pem", "key": "proxy.pem"}
    proxy = {"port": port, "address": "127.0.0.1", "tls": tls, "registries": [NAME]}
    server = serve(proxy=proxy)
    assert server.client().push_blob(f"{NAME}/app", BLOB).status == 201
    return server, ProxyClient(port, server.context)


def settled(server: Server) -> float:
    """Return the memory of a server in MiB once it does not grow any more."""
    deadline = time.monotonic() + 60
    before, now = 0.0, server.memory()
    while now > before:
        assert time.monotonic() < deadline, "the memory goes on growing"
        time.sleep(1)
        before, now = now, server.memory()
    return now


def test_clients_that_do_not_read_take_no_memory(proxied: tuple[Server, ProxyClient]) -> None:
    """A blob waits in the store, not in the proxy; somebody who reads gets it meanwhile."""
    server, proxy = proxied
    began = server.memory()
    with contextlib.ExitStack() as stack:
        for _number in range(SLOW):
            client = stack.enter_context(proxy.client())
            answer = stack.enter_context(client.stream("GET", URL))
            assert next(answer.iter_raw(1000))
        grown = settled(server) - began
        assert grown < SLOW * EACH
        quick = stack.enter_context(proxy.client())
        began = time.monotonic()
        assert quick.get(URL).content == BLOB
        seconds = time.monotonic() - began
    size = len(BLOB) / 1e6
    print(f"{SLOW} readers that stopped: {grown:.1f} MiB; a quick one: {size / seconds:.0f} MB/s")
    assert "Traceback" not in server.log.read_text()
