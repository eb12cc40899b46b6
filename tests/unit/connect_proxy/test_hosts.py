# SPDX-License-Identifier: Apache-2.0
"""Which servers the proxy stands for, and which addresses no tunnel leads to."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from buildset_registry.config import Config, parse
from buildset_registry.connect_proxy import certificate_names, server_of
from buildset_registry.connect_proxy.connect import parse_answer
from buildset_registry.connect_proxy.dialer import is_own
from buildset_registry.errors import ConfigError
from buildset_registry.instance.options import default_host
from buildset_registry.oci.hosts import RegistryHost


@pytest.mark.parametrize(
    ("registry", "server"),
    [
        ("quay.io", ("quay.io", 443)),
        ("Registry.Example:5000", ("registry.example", 5000)),
        ("docker.io", ("registry-1.docker.io", 443)),
        ("index.docker.io", ("registry-1.docker.io", 443)),
        ("[0:0::1]:5000", ("::1", 5000)),
        ("[::1]", ("::1", 443)),
    ],
)
def test_where_docker_asks_for_a_registry(registry: str, server: tuple[str, int]) -> None:
    """Docker Hub's images are on another host than the one that names them."""
    assert server_of(RegistryHost.parse(registry)) == server


def test_the_certificate_names_every_host_once() -> None:
    """Ports are not in certificates."""
    registries = map(RegistryHost.parse, ["b.example:1", "docker.io", "b.example:2"])
    assert certificate_names(registries) == ["b.example", "registry-1.docker.io"]


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        (str(IPv4Address(0)), True),
        ("::", True),
        ("169.254.169.254", True),
        ("fe80::1%eth0", True),
        ("fd00:ec2::254", True),
        ("224.0.0.1", True),
        ("10.1.2.3", False),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
    ],
)
def test_what_only_this_host_can_reach(address: str, own: bool) -> None:
    """Loopback, link-local addresses, none; not those of a site."""
    assert is_own(address) is own


@pytest.mark.parametrize(
    ("raw", "status"),
    [(b"HTTP/1.1 200 OK\r\n", 200), (b"HTTP/1.0 407\r\n", 407), (b"", 0), (b"SSH-2.0-x", 0)],
)
def test_what_another_proxy_answers(raw: bytes, status: int) -> None:
    """Something that is no proxy answers 0."""
    assert parse_answer(raw) == status


def config(proxy: object, **settings: object) -> Config:
    """Parse a configuration with a proxy."""
    tree = {
        "endpoints": {"single": {"port": 5000}},
        "storage": "memory",
        "auth": {"htpasswd": "users"},
        "upstreams": [
            {"name": name, "url": "https://x.example"} for name in ("docker.io", "quay.io")
        ],
        "proxy": proxy,
    }
    return parse(tree | settings, "test", Path())


TLS = {"certificate": "c", "key": "k"}


def test_by_default_it_stands_for_all_upstreams_but_docker_hub() -> None:
    """docker has registry-mirrors for that."""
    assert config({"port": 1, "tls": TLS}).proxied == ("quay.io",)
    told = {"port": 1, "tls": TLS, "registries": ["docker.io"]}
    assert config(told).proxied == ("docker.io",)
    assert config(None).proxied == ()


@pytest.mark.parametrize(
    ("proxy", "settings", "reason"),
    [
        ({"port": 1}, {}, "proxy.tls is missing"),
        ({"port": 1, "tls": TLS}, {"auth": {}}, "auth.htpasswd"),
        ({"port": 1, "tls": TLS, "ports": [0]}, {}, "proxy.ports"),
    ],
)
def test_a_proxy_that_cannot_be(proxy: object, settings: dict[str, object], reason: str) -> None:
    """One line says what is missing."""
    with pytest.raises(ConfigError, match=reason):
        config(proxy, **settings)


def test_no_tunnel_leads_to_the_outer_address_of_this_host() -> None:
    """A service may let its own host do more than others; an address elsewhere is none of ours."""
    assert is_own(default_host())
    assert not is_own("192.0.2.1")
