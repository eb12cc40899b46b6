# SPDX-License-Identifier: Apache-2.0
"""What tests share: each kind of store; for the client a CA, registries it signed for, clients."""

import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest
import trustme
from buildset_registry.store.base import Store
from buildset_registry.upstream.client import UpstreamClient
from buildset_registry.upstream.hosts import Upstream, Upstreams
from buildset_registry.upstream.transport import Timeouts
from trustme import CA

from tests.stores.fixtures import ObjectStores
from tests.stores.fixtures import object_stores as object_stores
from tests.unit.patient import PatientLoop
from tests.unit.store.kinds import CONFIGURED, opened
from tests.unit.upstream.lab import Connect, Server, serving


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], PatientLoop]]:
    """Have no test fail by a time-out when the machine rests it."""
    return {"patient": PatientLoop}


@pytest.fixture(params=CONFIGURED)
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, object_stores: ObjectStores
) -> AsyncIterator[Store]:
    """Each kind in turn, opened as the configuration of a registry opens it."""
    async with opened(request.param, tmp_path, object_stores) as made:
        yield made


@pytest.fixture(scope="session")
def authority() -> CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca(authority: CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of the CA's certificate."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="session")
def tls(authority: CA) -> SSLContext:
    """What servers need to speak TLS under every name the tests use."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    names = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "localhost", "registry.example")
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture
async def quay(tls: SSLContext) -> AsyncIterator[Server]:
    """The registry that the tests configure as quay.io."""
    async with serving(tls) as server:
        yield server


@pytest.fixture
async def storage(tls: SSLContext) -> AsyncIterator[Server]:
    """Another host, to which a registry may redirect."""
    async with serving(tls, "127.0.0.2") as server:
        yield server


@pytest.fixture
async def connect(quay: Server, ca: Path) -> AsyncIterator[Connect]:
    """Make a client of quay.io; arguments change the upstream, ``environment`` the proxies."""
    clients = []

    def make(
        environment: dict[str, str] | None = None, timeouts: Timeouts | None = None, **settings: Any
    ) -> UpstreamClient:
        upstream = Upstream(**{"name": "quay.io", "url": quay.url, "ca": ca, **settings})
        client = UpstreamClient(
            Upstreams((upstream,)),
            timeouts=timeouts,
            environment=environment or {},
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()
