# SPDX-License-Identifier: Apache-2.0
"""Connections to other servers: to some ports, never to what only this host can reach."""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address
from urllib.parse import unquote, urlsplit

from buildset_registry.connect_proxy.connect import HEAD_END, MAX_HEAD, ConnectRefused, parse_answer
from buildset_registry.connect_proxy.tunnel import BUFFER, Connection
from buildset_registry.protocol.errors import UpstreamError
from buildset_registry.protocol.proxy_env import ProxyEnvironment
from buildset_registry.protocol.tokens import basic
from buildset_registry.protocol.urls import is_forbidden

#: Seconds for a connection: name, every address, and the host's own proxy included.
_CONNECT = 15.0
#: Seconds for one address where there is another to try.
_ADDRESS = 5.0


def is_own(address: str) -> bool:
    """Tell whether an address is this host's own, one that it alone can reach, or no host's.

    By its outer address, too, a service may let its own host do more than others.
    """
    if is_forbidden(address):
        return True
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    special = ip.is_loopback or ip.is_unspecified or ip.is_multicast or ip.is_link_local
    return special or _is_assigned(str(ip))


def _is_assigned(address: str) -> bool:
    """Tell whether an interface of this host has an address: only then can it be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


class Dialer:
    """The way to servers, through the proxy of the host's environment if it has one."""

    def __init__(
        self,
        ports: frozenset[int],
        environment: Mapping[str, str],
        forbidden: Callable[[str], bool] = is_own,
    ) -> None:
        self._ports = ports
        self._proxies = ProxyEnvironment(environment)
        self._forbidden = forbidden
        self._mark = f"buildset-registry-{secrets.token_hex(8)}"

    def came_around(self, via: str) -> bool:
        """Tell by a Via header whether we asked ourselves, being our own host's proxy."""
        return self._mark in via

    async def open(self, host: str, port: int) -> Connection:
        """Connect to a server; ``ConnectRefused`` says why not."""
        if port not in self._ports:
            ports = ", ".join(map(str, sorted(self._ports)))
            raise ConnectRefused(
                403,
                f"tunnels lead to port {ports} only; add {port} to proxy.ports of the registry, or "
                f"{host} to NO_PROXY of docker",
            )
        try:
            return await asyncio.wait_for(self._open(host, port), _CONNECT)
        except asyncio.TimeoutError:
            raise ConnectRefused(
                504, f"{host}:{port} does not answer within {_CONNECT:g} s"
            ) from None

    async def _open(self, host: str, port: int) -> Connection:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            proxy = self._proxies.find(f"https://{target}")
        except UpstreamError as failure:
            raise ConnectRefused(502, failure.reason) from None
        if proxy is None:
            return await self._directly(host, port)
        self._check(host, host)
        return await _through(proxy, target, self._mark)

    async def _directly(self, host: str, port: int) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ConnectRefused(
                502, f"cannot find the address of {host}: {error.strerror}"
            ) from None
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        for address in addresses:
            self._check(host, address)
        problem: Exception = OSError("it has no address")
        for last, address in enumerate(addresses, 1 - len(addresses)):
            try:
                return await _connect(address, port, _CONNECT if last == 0 else _ADDRESS)
            except (OSError, asyncio.TimeoutError) as error:
                problem = error
        reason = getattr(problem, "strerror", None) or "no answer"
        raise ConnectRefused(502, f"cannot reach {host}:{port}: {reason}")

    def _check(self, host: str, address: str) -> None:
        """Refuse an address; the name of a host passes."""
        try:
            forbidden = self._forbidden(address)
        except ValueError:
            return
        if forbidden:
            raise ConnectRefused(
                403, f"{host} is {address}, which is this host's alone; no tunnel leads there"
            )


async def _connect(
    host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None
) -> Connection:
    opening = asyncio.open_connection(host, port, limit=BUFFER, ssl=tls)
    return Connection(*await asyncio.wait_for(opening, seconds))


async def _through(proxy: str, target: str, mark: str) -> Connection:
    """Have the host's own proxy connect to a server."""
    parts = urlsplit(proxy)
    name, secure = parts.hostname or "", parts.scheme == "https"
    tls = ssl.create_default_context() if secure else None
    try:
        stream = await _connect(name, parts.port or (443 if secure else 80), _CONNECT, tls)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConnectRefused(
            502, f"cannot reach the proxy {name} (HTTPS_PROXY): {reason}"
        ) from None
    try:
        await _ask(stream, target, proxy, mark)
    except BaseException:
        stream.abort()
        raise
    return stream


async def _ask(stream: Connection, target: str, proxy: str, mark: str) -> None:
    parts = urlsplit(proxy)
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", f"Via: 1.1 {mark}"]
    if parts.username is not None:
        pair = basic(unquote(parts.username), unquote(parts.password or ""))
        lines.append(f"Proxy-Authorization: {pair}")
    try:
        await stream.send("\r\n".join([*lines, "", ""]).encode())
        head = await stream.reader.readuntil(HEAD_END)
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        head = b""
    status = parse_answer(head[:MAX_HEAD])
    if status != 200:
        said = f"answers {status}" if status else "does not answer with HTTP"
        raise ConnectRefused(502, f"the proxy {parts.hostname} (HTTPS_PROXY) {said} for {target}")
