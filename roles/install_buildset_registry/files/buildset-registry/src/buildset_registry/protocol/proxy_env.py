# SPDX-License-Identifier: Apache-2.0
"""The host's own proxies: HTTP_PROXY, HTTPS_PROXY and NO_PROXY of its environment; pure.

NO_PROXY is read as docker and podman read it (golang.org/x/net/http/httpproxy), so that one value
serves all: names with their subdomains, addresses, networks such as ``10.0.0.0/8``, each with a
port if need be, or ``*``. The host itself is never reached through a proxy.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from .errors import UpstreamError
from .urls import origin


class ProxyEnvironment:
    """The choice that the environment makes; lower-case names come first, as everywhere."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._proxies = {
            scheme: _setting(environment, f"{scheme}_proxy") for scheme in ("http", "https")
        }
        exceptions = _setting(environment, "no_proxy").lower().replace(",", " ").split()
        self._exceptions = exceptions

    def find(self, url: str) -> str | None:
        """Return the proxy's URL, credentials included, or ``None`` for a direct connection."""
        scheme, host, port = origin(url)
        proxy = self._proxies[scheme]
        if not proxy or self._is_direct(host, port):
            return None
        if "://" not in proxy:
            proxy = f"http://{proxy}"
        if not _is_proxy(proxy):
            raise UpstreamError(
                f"the proxy {_shown(proxy)} is of an unknown kind; "
                f"set {scheme.upper()}_PROXY to an http:// URL"
            )
        return proxy

    def _is_direct(self, host: str, port: int) -> bool:
        address = _address(host)
        if host == "localhost" or (address is not None and address.is_loopback):
            return True
        return any(_matches(item, host, address, port) for item in self._exceptions)


def _setting(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper()) or ""


def _is_proxy(url: str) -> bool:
    """Tell whether there can be a proxy: of a kind that is known, with a port that is one."""
    try:
        return urlsplit(url).scheme in ("http", "https") and origin(url)[2] > 0
    except (UpstreamError, ValueError):
        return False


def _shown(proxy: str) -> str:
    scheme, _separator, rest = proxy.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('/')[0]}"


def _matches(item: str, host: str, address: IPv4Address | IPv6Address | None, port: int) -> bool:
    """Tell whether an item of NO_PROXY names the host."""
    if item == "*":
        return True
    if address is not None and "/" in item:
        try:
            return address in ip_network(item, strict=False)
        except ValueError:
            return False
    name, item_port = _split_port(item)
    if item_port and item_port != str(port):
        return False
    if address is not None:
        return _address(name) == address
    name = name.lstrip("*").lstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split_port(item: str) -> tuple[str, str]:
    if item.startswith("["):
        name, _separator, port = item[1:].partition("]")
        return name, port.lstrip(":")
    name, _separator, port = item.partition(":")
    return (item, "") if ":" in port else (name, port)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
