# SPDX-License-Identifier: Apache-2.0
"""The place of an address, from the internet to this very host, and who may lead there; pure.

An upstream redirects, and names a token server, where it likes. A public one must not lead this
registry to services of its network or its host (decision 0029).
"""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from buildset_registry.protocol.urls import is_forbidden

_LOOPBACK = tuple(map(ip_network, ("127.0.0.0/8", "0.0.0.0/8", "::1/128", "::/128")))
#: RFC 1918, RFC 6598 and RFC 4193, and the site-local addresses before that.
_PRIVATE = tuple(
    map(
        ip_network,
        (
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "fc00::/7",
            "fec0::/10",
        ),
    )
)
#: Addresses of IPv6 that end in one of IPv4: NAT64 (RFC 6052), and the old compatible ones.
_ENDING_IN_IPV4 = tuple(map(ip_network, ("64:ff9b::/96", "::/96")))


class Reach(IntEnum):
    """Whoever is at one may lead to what is at the same or a lower one."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2
    NOBODY = 3
    """Link-local: what clouds tell their machines there is for nobody else."""

    @property
    def words(self) -> str:
        """Return what an address there is called."""
        return ("a public", "a private", "a loopback", "a link-local")[self]


def reach_of(address: str) -> Reach | None:
    """Return where an address is; None for a name."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    ip = _translated(ip)
    if is_forbidden(str(ip)):
        return Reach.NOBODY
    if any(ip in network for network in _LOOPBACK):
        return Reach.LOOPBACK
    if any(ip in network for network in _PRIVATE):
        return Reach.PRIVATE
    return Reach.PUBLIC


def _translated(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the address of IPv4 that one of IPv6 stands for, or the address itself."""
    if isinstance(ip, IPv4Address):
        return ip
    embedded = ip.ipv4_mapped or ip.sixtofour
    if embedded is not None:
        return embedded
    if int(ip) > 1 and any(ip in network for network in _ENDING_IN_IPV4):
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip
