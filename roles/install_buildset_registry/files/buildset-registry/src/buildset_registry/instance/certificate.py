# SPDX-License-Identifier: Apache-2.0
"""Certificates: an authority that signs once and is forgotten, and the servers' own.

OpenSSL, Go and rustls all verify a chain of two; what jobs trust can sign nothing else, since the
authority's key is never written (docs/decisions/0003). RFC 5280 asks for the extensions, and
Python 3.13 verifies that they are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAYS = 3650
#: Clocks of nodes that were just started may be late.
_EARLY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Leaf:
    """The certificates that a server shows, and its key, as PEM."""

    chain: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Issued:
    """The authority to trust, as PEM, and the servers' certificates in the order asked for."""

    authority: bytes
    leaves: tuple[Leaf, ...]


def issue(*servers: Sequence[str]) -> Issued:
    """Make an authority, and a certificate of it for each list of host names and IP addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = _authority(key)
    leaves = [_leaf(names, authority, key) for names in servers]
    return Issued(authority.public_bytes(serialization.Encoding.PEM), tuple(leaves))


def _leaf(
    names: Sequence[str], authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey
) -> Leaf:
    key = ec.generate_private_key(ec.SECP256R1())
    server = _server(names, key, authority, authority_key)
    certificates = [one.public_bytes(serialization.Encoding.PEM) for one in (server, authority)]
    return Leaf(
        chain=b"".join(certificates),
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "buildset-registry, of this registry only")]
    )
    return (
        _builder(subject, subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _server(
    names: Sequence[str],
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "buildset-registry")])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return (
        _builder(subject, authority.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([*map(_name, names)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + timedelta(days=_DAYS))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
