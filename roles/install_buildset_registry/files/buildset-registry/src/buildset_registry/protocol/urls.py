# SPDX-License-Identifier: Apache-2.0
"""URLs that an upstream may point the client to, and their origins; pure.

An upstream redirects to storage, and names a token server, on hosts of its choice. Neither may
lead to a service that only this host can reach, such as a cloud's metadata, nor out of TLS.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import urljoin, urlsplit, urlunsplit

from .errors import UpstreamError

_PORTS = {"https": 443, "http": 80}
#: Link-local addresses, where clouds serve credentials to their machines; AWS by IPv6, too.
_FORBIDDEN = tuple(map(ip_network, ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128")))

Origin = tuple[str, str, int]


def origin(url: str) -> Origin:
    """Return scheme, host and port: what two URLs of one server share (RFC 6454)."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (KeyError, ValueError):
        raise _not_a_url(url) from None
    if not parts.hostname:
        raise _not_a_url(url)
    return parts.scheme, parts.hostname, port


def server(url: str) -> str:
    """Return host and port, as a message names them: the port where it is not the scheme's."""
    scheme, host, port = origin(url)
    host = f"[{host}]" if ":" in host else host
    return host if port == _PORTS[scheme] else f"{host}:{port}"


def is_forbidden(address: str) -> bool:
    """Tell whether ``address`` is one that only this host can reach; a name is none."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return any(ip in network for network in _FORBIDDEN)


def onward(source: str, target: str) -> str:
    """Return the absolute URL that ``source`` points to, or refuse it."""
    try:
        stated, parts = urlsplit(target), urlsplit(urljoin(source, target))
    except ValueError:
        raise _not_a_url(target) from None
    # urljoin would take the host of the source for one that the target leaves out.
    if stated.scheme and not stated.netloc:
        raise _not_a_url(target)
    url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
    scheme, host, _port = origin(url)
    if scheme == "http" and urlsplit(source).scheme != "http":
        raise UpstreamError(
            f"points to {without_query(url)}, which is without TLS; this is refused"
        )
    if is_forbidden(host):
        raise UpstreamError(f"points to the link-local address {host}; this is refused")
    return url


def without_query(url: str) -> str:
    """Return the URL as it may be logged: a query may hold a signature."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _not_a_url(text: str) -> UpstreamError:
    return UpstreamError(f"points to {text.partition('?')[0][:80]!r}, which is not an https:// URL")
