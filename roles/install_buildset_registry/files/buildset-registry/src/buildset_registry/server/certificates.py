# SPDX-License-Identifier: Apache-2.0
"""Certificates of the servers: read and checked at once, and read again when they are replaced."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from buildset_registry.config import Config
from buildset_registry.errors import ConfigError
from buildset_registry.store import store_kind
from buildset_registry.store.base import Store

if TYPE_CHECKING:
    from buildset_registry.acme.renewal import OrderCounters

#: Seconds between two looks at the files; they are read when two looks saw the same change, since
#: a certificate and its key are replaced one after the other.
_LOOK_SECONDS = 0.75

_LEAST_RSA = 2048
_CURVES = ("secp256r1", "secp384r1")

#: Since when and until when a certificate is valid, in seconds since the epoch.
Times = tuple[float, float]

_log = logging.getLogger("buildset_registry.server")


class Credentials:
    """A certificate and its key as they were when they were checked, in memory, as two paths.

    Granian reads files, and ends the process where these do not belong together: what it reads must
    not change in between. The key never gets to another place on the disk.
    """

    def __init__(self, certificate: bytes, key: bytes) -> None:
        self.certificate = certificate
        self.key = key
        self._descriptors = (_in_memory(certificate), _in_memory(key))
        self.certificate_path, self.key_path = (f"/proc/self/fd/{one}" for one in self._descriptors)

    def __del__(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)

    def same_as(self, other: Credentials) -> bool:
        """Tell whether both are the same bytes."""
        return (self.certificate, self.key) == (other.certificate, other.key)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Show this certificate to who connects from now on."""
        context.load_cert_chain(self.certificate_path, self.key_path, lambda: "")

    def context(self) -> ssl.SSLContext:
        """Return the TLS of a listener that Granian does not serve: 1.2 and 1.3, as there."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load_into(context)
        return context


@dataclass(frozen=True, slots=True)
class KeyPair:
    """PEM files: a certificate with what it was signed by, and its private key."""

    certificate: Path
    key: Path

    def read(self) -> Credentials:
        """Return what the files hold; ``ConfigError`` where it cannot be served."""
        certificate, key = _bytes_of(self.certificate), _bytes_of(self.key)
        try:
            Credentials(certificate, key).load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            return Credentials(certificate, _as_pkcs8(key))
        except (ssl.SSLError, ValueError, OSError) as error:
            reason = getattr(error, "reason", None) or str(error)
            raise ConfigError(
                f"{self.certificate} and {self.key} are not a certificate and its unencrypted key "
                f"({reason}); give a pair that belongs together"
            ) from None

    def look(self) -> tuple[object, ...]:
        """Return what is another when one of the files was replaced or written."""
        return tuple(map(_state, (self.certificate, self.key)))

    def times(self) -> Times | None:
        """Return since when and until when the certificate in the file is valid."""
        return CertificateTimes(self.certificate)()

    @property
    def orders(self) -> OrderCounters | None:
        """Return none: somebody else replaces the files."""
        return None


class CertificateSource(Protocol):
    """The source of a certificate: files, or an authority."""

    @property
    def certificate(self) -> object:
        """Return what messages call it."""

    def read(self) -> Credentials:
        """Return the certificate of now; ``ConfigError`` where it cannot be served."""

    def look(self) -> tuple[object, ...]:
        """Return what is another when the certificate may be."""

    def times(self) -> Times | None:
        """Return since when and until when it is valid; None where that is not known."""

    @property
    def orders(self) -> OrderCounters | None:
        """Return the orders of certificates; None where none are made."""


async def certificate_of(
    config: Config, store: Store, stack: AsyncExitStack
) -> CertificateSource | None:
    """Return where the certificate comes from; None for plain HTTP."""
    if config.acme is not None:
        # Whoever has files does without it, and without what it imports.
        from buildset_registry.server.acme import keep_certificate

        lasting = store if store_kind(config).lasting else None
        return await keep_certificate(config.acme, lasting, config.limits.answer_seconds, stack)
    return KeyPair(config.tls.certificate, config.tls.key) if config.tls else None


class CertificateWatch:
    """Looks at the files of a certificate, and hands a new one to whoever serves it."""

    def __init__(
        self, pair: CertificateSource, current: Credentials, renew: Callable[[Credentials], None]
    ) -> None:
        self._pair = pair
        self._current = current
        self._renew = renew
        self._known = self._seen = pair.look()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            before, self._seen = self._seen, self._pair.look()
            if before == self._seen != self._known:
                self.read()

    def read(self) -> None:
        """Read the files now; what cannot be served is one line of the log, the old one stays."""
        self._known = self._seen = self._pair.look()
        try:
            new = self._pair.read()
            _check_kind(new)
            if new.same_as(self._current):
                return
            self._renew(new)
        except (ConfigError, OSError) as error:
            _log.error("the certificate before stays: %s", error)
            return
        self._current = new
        _log.info("serves a new certificate: %s", self._pair.certificate)


def _in_memory(content: bytes) -> int:
    descriptor = os.memfd_create("buildset-registry", os.MFD_CLOEXEC)
    os.write(descriptor, content)
    return descriptor


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise ConfigError(f"cannot read {path}; name a PEM file that this user may read") from None


def _state(path: Path) -> object:
    try:
        state = path.stat()
    except OSError as error:
        return error.errno
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _as_pkcs8(pem: bytes) -> bytes:
    """Return a key as PKCS#8, the one form that Granian reads."""
    if b"-----BEGIN PRIVATE KEY-----" in pem:
        return pem
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_pem_private_key(pem, password=None)
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _check_kind(credentials: Credentials) -> None:
    """Refuse a key that OpenSSL takes and Granian's TLS does not, which would end the process."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(credentials.key, password=None)
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _LEAST_RSA:
        return
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return
    raise ConfigError("its key is neither RSA of 2048 bits or more, nor ECDSA P-256 or P-384")


class CertificateTimes:
    """The times of the certificate in a file: of the first one there to end, as clients verify all.

    The library that reads it takes 8 MiB, so it is loaded by whoever asks first.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._state: object = None
        self._times: Times | None = None

    def __call__(self) -> Times | None:
        """Return them; None where the file holds no certificate."""
        state = _state(self._file)
        if state != self._state:
            self._state, self._times = state, _times_of(self._file)
        return self._times


def _times_of(file: Path) -> Times | None:
    from cryptography import x509

    try:
        certificates = x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError):
        return None
    first = min(certificates, key=lambda one: one.not_valid_after_utc)
    return first.not_valid_before_utc.timestamp(), first.not_valid_after_utc.timestamp()
