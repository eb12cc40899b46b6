# SPDX-License-Identifier: Apache-2.0
"""The certificate that was issued, as it is kept: a document that is replaced whole."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

#: The part of its life after which a certificate is renewed, as authorities advise; the second is
#: for those that live for less than ten days.
_RENEWED_AFTER, _SOONER = 2 / 3, 1 / 2
_SHORT = 10 * 24 * 3600
_PLACEHOLDER_DAYS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """A certificate with what it was signed by, its key, and what it was ordered by."""

    directory: str
    names: tuple[str, ...]
    chain: str
    key: str = field(repr=False)

    @classmethod
    def of_json(cls, content: bytes) -> IssuedCertificate | None:
        """Return what a document says; None for one that is damaged."""
        try:
            tree = json.loads(content)
            found = cls(**{**tree, "names": tuple(tree["names"])})
            x509.load_pem_x509_certificate(found.chain.encode())
            serialization.load_pem_private_key(found.key.encode(), None)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
        return found

    def to_json(self) -> bytes:
        """Return the document."""
        return json.dumps(asdict(self), indent=1).encode()

    @property
    def times(self) -> tuple[float, float]:
        """Return since when and until when it is valid, in seconds since the epoch."""
        return validity(self.chain.encode())

    @property
    def pair(self) -> tuple[bytes, bytes]:
        """Return the chain and the key, as PEM."""
        return self.chain.encode(), self.key.encode()

    def ordered_by(self, directory: str, names: tuple[str, ...]) -> bool:
        """Tell whether it is of this authority, and for these names."""
        return (self.directory, self.names) == (directory, names)

    def due(self, now: float) -> bool:
        """Tell whether it is time for another one; so it is where the clock was wrong."""
        begins, ends = self.times
        life = ends - begins
        return not begins <= now < begins + life * (_SOONER if life < _SHORT else _RENEWED_AFTER)


def validity(pem: bytes) -> tuple[float, float]:
    """Return since when and until when the first certificate of a PEM file is valid."""
    found = x509.load_pem_x509_certificate(pem)
    return found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return the key of a certificate that is to be ordered."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a key as PKCS#8."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def placeholder(names: Sequence[str]) -> tuple[bytes, bytes]:
    """Return a certificate that nobody trusts, and its key: TLS needs one until one is issued."""
    key, now = new_key(), datetime.now(timezone.utc)
    text = "buildset-registry, no certificate was issued yet"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_PLACEHOLDER_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(names[0])]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM), key_pem(key)


def shown_time(moment: float) -> str:
    """Return a time for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))
