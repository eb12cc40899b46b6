# SPDX-License-Identifier: Apache-2.0
"""Registries by name, in one normal form, which is made once, where a name enters.

A registry is called by many names: ``Quay.io``, ``quay.io.``, ``quay.io:443``; Docker Hub has three
of its own, and an IPv6 address is written in several ways. Configuration, rules, routing and
policy compare ``RegistryHost`` alone, so that what holds for one name holds for all.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address

from ..errors import NameInvalid

HTTPS = 443
#: The names that clients use for Docker Hub: its API host, and its older web host.
DOCKER_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})

_HOST = r"[a-z0-9]+(?:(?:\.|_|-+)[a-z0-9]+)*"
_AUTHORITY = re.compile(rf"(?:\[([0-9a-f:.]{{2,45}})\]|({_HOST})\.?)(?::([0-9]{{1,5}}))?")
_STORED_ADDRESS = re.compile(r"ip6__([0-9a-f]{1,4}(?:-[0-9a-f]{1,4}){7})(?:__([0-9]{1,5}))?")
_STORED_PORT = re.compile(r"(.+)__([0-9]{1,5})")
_REMEMBERED = 1024
#: Characters of a name in DNS (RFC 1035, section 2.3.4, without the lengths of its labels); with a
#: final dot and a port there are so many more.
_LONGEST_NAME = 253
_LONGEST = _LONGEST_NAME + len(".:65535")


class RegistryHost(str):
    """A registry as images name it, ``host`` or ``host:port``, in its normal form.

    In small letters, without a final dot, without the port of HTTPS, an IPv6 address compressed and
    in brackets; each name of Docker Hub is ``docker.io``.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> RegistryHost:
        """Return the normal form; ``NameInvalid`` for what names no registry."""
        if len(text) > _LONGEST:  # nothing of such a length is remembered
            raise _too_long(text)
        return cls._parse(text)

    @classmethod
    @lru_cache(_REMEMBERED)
    def _parse(cls, text: str) -> RegistryHost:
        found = _AUTHORITY.fullmatch(text.lower()) if text.isascii() else None
        if found is None:
            raise NameInvalid(f"not the name of a registry: {text[:80]!r}; give host or host:port")
        port = int(found[3]) if found[3] else HTTPS
        if not 0 < port < 65536:
            raise NameInvalid(f"not the name of a registry: {text[:80]!r}; a port is 1 to 65535")
        host = f"[{_address(found[1])}]" if found[1] else found[2]
        if len(host) > _LONGEST_NAME:
            raise _too_long(text)
        if port != HTTPS:
            return cls(f"{host}:{port}")
        return DOCKER_HUB if host in DOCKER_HUB_NAMES else cls(host)

    @classmethod
    @lru_cache(_REMEMBERED)
    def of_component(cls, component: str) -> RegistryHost | None:
        """Return the registry that the first component of a name stands for.

        None where it stands for none, so that the repository is one of Docker Hub. What looks like
        a registry and cannot be one stays what it is, and is no other.
        """
        address = _STORED_ADDRESS.fullmatch(component)
        with_port = _STORED_PORT.fullmatch(component)
        if address:
            text = f"[{address[1].replace('-', ':')}]:{address[2] or HTTPS}"
        elif with_port:
            text = f"{with_port[1]}:{with_port[2]}"
        elif "." in component or component == "localhost":
            text = component
        else:
            return None
        try:
            return cls.parse(text)
        except NameInvalid:
            return cls(component)

    @property
    def server(self) -> tuple[str, int]:
        """The host, an address without brackets, and the port."""
        host, separator, port = self.rpartition(":")
        if not separator or self.endswith("]"):
            host, port = str(self), str(HTTPS)
        return host.strip("[]"), int(port)

    @property
    def component(self) -> str:
        """What stands for it in a stored name, as the first component.

        The grammar of names has no room for a colon, and a host without a dot would be a user of
        Docker Hub: ``__`` is in neither a host nor a user.
        """
        if "__" in self:
            return str(self)
        host, port = self.server
        if ":" in host:
            groups = IPv6Address(host).exploded.split(":")
            host = "ip6__" + "-".join(f"{int(group, 16):x}" for group in groups)
        elif port == HTTPS and "." not in host and host != "localhost":
            return f"{host}__{port}"
        return host if port == HTTPS else f"{host}__{port}"


DOCKER_HUB = RegistryHost("docker.io")


def normal_host(text: str) -> str:
    """Return the normal form of a host alone: of a name, or of an address without brackets."""
    host = text.lower().rstrip(".")
    return _address(host) if ":" in host else host


def _too_long(text: str) -> NameInvalid:
    return NameInvalid(
        f"not the name of a registry: {text[:80]!r}; a host has at most {_LONGEST_NAME} characters"
    )


def _address(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except ValueError:
        raise NameInvalid(f"not an IPv6 address: {text!r}") from None
