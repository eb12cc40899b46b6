# SPDX-License-Identifier: Apache-2.0
"""What the tests of the client share: a CA, a registry that it signed for, clients."""

import ssl

import pytest
import trustme
from buildset_registry.config import Upstream
from buildset_registry.upstream.client import Timeouts, UpstreamClient
from buildset_registry.upstream.rules import Rules

from tests.unit.upstream.lab import serving


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(scope="session")
def ca(authority, tmp_path_factory):
    """The path of the CA's certificate."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="session")
def tls(authority):
    """What servers need to speak TLS under every name the tests use."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    names = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "localhost", "registry.example")
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture
async def quay(tls):
    """The registry that the tests configure as quay.io."""
    async with serving(tls) as server:
        yield server


@pytest.fixture
async def storage(tls):
    """Another host, to which a registry may redirect."""
    async with serving(tls, "127.0.0.2") as server:
        yield server


@pytest.fixture
async def connect(quay, ca):
    """Make a client of quay.io; arguments change the upstream, ``environment`` the proxies."""
    clients = []

    def make(environment=None, timeouts=None, **settings):
        upstream = Upstream(**{"name": "quay.io", "url": quay.url, "ca": ca, **settings})
        client = UpstreamClient(
            Rules((upstream,)), timeouts=timeouts or Timeouts(), environment=environment or {}
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()
