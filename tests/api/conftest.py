# SPDX-License-Identifier: Apache-2.0
"""A registry in this process, in every configuration; clients for it, and an upstream."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from trustme import CA

from tests.api.configurations import Configuration, rows
from tests.api.harness import Harness, Registry
from tests.stores.fixtures import ObjectStores
from tests.stores.fixtures import object_stores as object_stores
from tests.unit.upstream.lab import BLOB_PATH, V1_PATH, Server, blob, manifest, serving


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark of ``only`` known."""
    config.addinivalue_line("markers", "only(*which, why): run in these configurations only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what starts a registry in each configuration that it does not leave out."""
    if "configuration" in metafunc.fixturenames:
        chosen = rows(metafunc.definition.iter_markers("only"))
        assert chosen, "no configuration is left"
        metafunc.parametrize("configuration", chosen, ids=lambda row: row.name)


@pytest.fixture(scope="session")
def authority() -> CA:
    """A certificate authority of the tests' own."""
    return CA()


@pytest.fixture
def harness(
    tmp_path: Path, authority: CA, configuration: Configuration, object_stores: ObjectStores
) -> Iterator[Harness]:
    """Start registries with ``harness.start(...)``; they end with the test."""
    with Harness(tmp_path, authority, configuration, object_stores) as made:
        yield made


@pytest.fixture
def registry(harness: Harness) -> Registry:
    """A registry without upstreams."""
    return harness.start()


@contextlib.contextmanager
def in_a_thread(context: ssl.SSLContext) -> Iterator[Server]:
    """Run the lab's server in a loop of its own."""
    loop, stop, made = asyncio.new_event_loop(), asyncio.Event(), []
    started = threading.Event()

    async def serve() -> None:
        async with serving(context) as server:
            made.append(server)
            started.set()
            await stop.wait()
        # Connections that the other side has closed are let go of in the loop's next rounds.
        await asyncio.sleep(0.05)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    started.wait()
    try:
        yield made[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@pytest.fixture
def quay(authority: CA) -> Iterator[Server]:
    """An upstream, which the tests configure as quay.io."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with in_a_thread(context) as server:
        server.on(V1_PATH, manifest())
        server.on(BLOB_PATH, blob())
        yield server
