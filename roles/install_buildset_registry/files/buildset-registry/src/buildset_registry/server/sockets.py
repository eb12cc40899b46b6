# SPDX-License-Identifier: Apache-2.0
"""Sockets and TLS: the checks before listening, and what Granian does not do.

Whether a port is free, and whether a certificate and a key belong together, Granian does not say in
a way that a user could act on, so it is found out before.
"""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from buildset_registry.errors import ConfigError


def every_address() -> str:
    """Return the address that means every one, IPv6 ones too where the host has IPv6."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return str(IPv4Address(0))
    return str(IPv6Address(0))


def check_free(address: str, port: int, role: str) -> None:
    """Refuse a port that somebody listens on; Granian would share it (SO_REUSEPORT)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {role} port {port} ({address}): {error.strerror}; "
                "stop what uses it or choose another port"
            ) from None


def open_listener(address: str, port: int) -> socket.socket:
    """Listen without Granian, on IPv4 too where the address means every one."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    dual = address == str(IPv6Address(0)) and socket.has_dualstack_ipv6()
    return socket.create_server((address, port), family=family, dualstack_ipv6=dual)


class ReservedPort:
    """A port that nobody else gets until it is closed, for a listener that shares it."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((address, 0))

    @property
    def port(self) -> int:
        """Return its number."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


@dataclass(frozen=True, slots=True)
class KeyPair:
    """PEM files: a certificate with what it was signed by, and its private key."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Return the TLS of a listener that Granian does not serve: 1.2 and 1.3, as there."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        return context

    def checked(self, folder: Path) -> KeyPair:
        """Refuse what cannot be read or does not belong together; return it as Granian reads it.

        A key in another form than PKCS#8 is converted into ``folder``, which nobody else may read.
        """
        for path in (self.certificate, self.key):
            if not os.access(path, os.R_OK):
                raise ConfigError(f"cannot read {path}; name a PEM file that this user may read")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                self.certificate, self.key, lambda: ""
            )
        except (ssl.SSLError, ValueError, OSError) as error:
            reason = getattr(error, "reason", None) or str(error)
            raise ConfigError(
                f"{self.certificate} and {self.key} are not a certificate and its unencrypted key "
                f"({reason}); give a pair that belongs together"
            ) from None
        return KeyPair(self.certificate, _as_pkcs8(self.key, folder))


def _as_pkcs8(key: Path, folder: Path) -> Path:
    """Return a path to the key as PKCS#8, the one form that Granian reads."""
    pem = key.read_bytes()
    if b"-----BEGIN PRIVATE KEY-----" in pem:
        return key
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_pem_private_key(pem, password=None)
    content = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    folder.mkdir(exist_ok=True)
    converted = folder / "server.key"
    converted.write_bytes(content)
    return converted
