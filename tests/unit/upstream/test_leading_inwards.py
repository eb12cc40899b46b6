# SPDX-License-Identifier: Apache-2.0
"""Redirects and token servers in private space: only from there (decision 0029).

Three addresses of this host stand for a public one, a private one and the host itself.
"""

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest
from buildset_registry.errors import RegistryError, UpstreamFailed
from buildset_registry.oci.hosts import RegistryHost
from buildset_registry.oci.names import RepositoryName
from buildset_registry.upstream import transport
from buildset_registry.upstream.client import UpstreamClient
from buildset_registry.upstream.hosts import Upstream, Upstreams
from buildset_registry.upstream.reach import Reach, reach_of

from tests.unit.upstream.lab import (
    MANIFEST,
    NAME,
    V1,
    V1_PATH,
    Server,
    guarded,
    manifest,
    redirect,
    reply,
    serving,
)

PLACES = {
    "127.0.0.1": Reach.PUBLIC,
    "127.0.0.2": Reach.PRIVATE,
    "127.0.0.3": Reach.LOOPBACK,
}
NAMES = {f"{reach.name.lower()}.example": address for address, reach in PLACES.items()}
Servers = dict[Reach, Server]


@pytest.fixture(autouse=True)
def _places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "reach_of", lambda one: PLACES.get(one, reach_of(one)))
    real = socket.getaddrinfo

    def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
        return real(NAMES.get(host, host), *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    """A server at each place, without TLS, whose certificates would hide what is refused here."""
    async with (
        serving(None, "127.0.0.1") as public,
        serving(None, "127.0.0.2") as private,
        serving(None, "127.0.0.3") as loopback,
    ):
        made = {Reach.PUBLIC: public, Reach.PRIVATE: private, Reach.LOOPBACK: loopback}
        for server in made.values():
            server.on("/x", manifest())
            server.on("/token", reply(200, b'{"token": "good"}'))
        yield made


def url(servers: Servers, reach: Reach, by_name: bool) -> str:
    server = servers[reach]
    return f"http://{reach.name.lower()}.example:{server.port}" if by_name else server.url


async def pulled(*urls: str, name: RepositoryName = NAME) -> bytes:
    """Pull an image of the first URL's registry; others are configured, too."""
    upstreams = [
        Upstream(name=RegistryHost(f"{i}.example"), url=one) for i, one in enumerate(urls[1:])
    ]
    client = UpstreamClient(
        Upstreams((Upstream(name=RegistryHost("quay.io"), url=urls[0]), *upstreams)), environment={}
    )
    try:
        for number in range(len(upstreams)):
            await client.manifest(RepositoryName(f"{number}.example/org/app"), V1)
        return (await client.manifest(name, V1)).raw
    finally:
        await client.close()


CELLS = [(source, target) for source in list(Reach)[:3] for target in list(Reach)[:3]]


@pytest.mark.parametrize("by_name", [True, False], ids=["name", "address"])
@pytest.mark.parametrize(("source", "target"), CELLS)
async def test_a_redirect_leads_no_further_in_than_where_it_comes_from(
    servers: Servers, source: Reach, target: Reach, by_name: bool
) -> None:
    """By the address that a name has when it is connected to."""
    servers[source].on(V1_PATH, redirect(f"{url(servers, target, by_name)}/x"))
    upstream = url(servers, source, by_name)
    if target <= source:
        assert await pulled(upstream) == MANIFEST
        return
    with pytest.raises(UpstreamFailed, match=rf"is {target.words} address, where .* is refused"):
        await pulled(upstream)
    assert servers[target].asked == []


@pytest.mark.parametrize("by_name", [True, False], ids=["name", "address"])
@pytest.mark.parametrize(("source", "target"), CELLS)
async def test_a_token_server_is_no_further_in_than_its_registry(
    servers: Servers, source: Reach, target: Reach, by_name: bool
) -> None:
    """A challenge leads there as a redirect does."""
    challenge = f'Bearer realm="{url(servers, target, by_name)}/token"'
    servers[source].on(V1_PATH, guarded(manifest(), "Bearer good", challenge=challenge))
    upstream = url(servers, source, by_name)
    if target <= source:
        assert await pulled(upstream) == MANIFEST
        return
    with pytest.raises(RegistryError, match=rf"is {target.words} address, where .* is refused"):
        await pulled(upstream)
    assert servers[target].asked == []


async def test_a_detour_by_a_public_server_leads_no_further_in(servers: Servers) -> None:
    """Whoever redirects decides, not the first of them."""
    servers[Reach.PRIVATE].on(V1_PATH, redirect(f"{servers[Reach.PUBLIC].url}/onward"))
    servers[Reach.PUBLIC].on("/onward", redirect(f"{servers[Reach.PRIVATE].url}/x"))
    with pytest.raises(UpstreamFailed, match=r"127\.0\.0\.2 is a private address"):
        await pulled(servers[Reach.PRIVATE].url)
    assert [asked.path for asked in servers[Reach.PRIVATE].asked] == [V1_PATH]


async def test_a_name_that_changes_its_address_is_refused_when_it_is_connected_to(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that was public a moment ago leads in as little as any (DNS rebinding)."""
    public, private = servers[Reach.PUBLIC], servers[Reach.PRIVATE]
    monkeypatch.setitem(NAMES, "storage.example", "127.0.0.1")

    public.on(V1_PATH, redirect(f"http://storage.example:{private.port}/x"))
    public.on("/x", manifest())
    monkeypatch.setitem(NAMES, "storage.example", "127.0.0.2")
    with pytest.raises(UpstreamFailed, match=r"storage\.example is a private address"):
        await pulled(public.url)
    assert private.asked == []


async def test_a_connection_to_a_configured_registry_is_not_lent_to_a_redirect(
    servers: Servers,
) -> None:
    """It is open already, and yet the redirect is refused."""
    public, private = servers[Reach.PUBLIC], servers[Reach.PRIVATE]
    private.on(V1_PATH, manifest())
    public.on(V1_PATH, redirect(f"{private.url}/x"))
    with pytest.raises(UpstreamFailed, match="is a private address"):
        await pulled(public.url, private.url)
    assert [asked.path for asked in private.asked] == [V1_PATH]


async def test_a_redirect_within_a_server_is_followed_wherever_it_is(
    servers: Servers, tls: SSLContext, ca: Path
) -> None:
    """It leads nowhere else."""
    for server in servers.values():
        server.on(V1_PATH, redirect("/x"))
        assert await pulled(server.url) == MANIFEST
