# SPDX-License-Identifier: Apache-2.0
"""Tokens of an external server, verified by its public key: distribution's ``auth: token``.

The key decides which algorithms count, never the token: with an HMAC that was made of a public key,
or with no signature at all, nobody gets in.
"""

from __future__ import annotations

import hashlib
import json
import time
from base64 import b32encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildset_registry.auth.access import Identity
from buildset_registry.auth.claims import VerifiedTokens
from buildset_registry.errors import ConfigError, TokenInvalid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

#: Seconds by which the clocks of the token server and of this one may differ (as distribution has).
_LEEWAY = 60
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key, the names that tokens may call it by, and the algorithms that fit it."""

    public: PublicKey
    names: frozenset[str]
    algorithms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenServer:
    """An external token server."""

    realm: str
    service: str
    name: str
    """The issuer that its tokens name."""

    keys: tuple[VerificationKey, ...]


class ExternalTokens:
    """Verifies tokens of an external server."""

    def __init__(self, server: TokenServer, clock: Callable[[], float] = time.time) -> None:
        self._server = server
        self.service = server.service
        self.realm = server.realm
        self._verified = VerifiedTokens(clock)

    def verify(self, token: str) -> Identity:
        """Return what a token grants; ``TokenInvalid`` for one that is not good here and now."""
        known = self._verified.find(token)
        return known or self._verified.add(token, self._claims(token), _LEEWAY)

    def _claims(self, token: str) -> dict[str, object]:
        import jwt

        try:
            name = jwt.get_unverified_header(token).get("kid")
        except (jwt.InvalidTokenError, RecursionError):
            name = None
        for key in self._candidates(name):
            try:
                claims: dict[str, object] = jwt.decode(
                    token,
                    key.public,
                    algorithms=list(key.algorithms),
                    audience=self._server.service,
                    issuer=self._server.name,
                    options={
                        "require": ["exp"],
                        "verify_exp": False,
                        "verify_nbf": False,
                        "verify_iat": False,
                    },
                )
            except (jwt.InvalidTokenError, RecursionError):
                continue
            return claims
        raise TokenInvalid(f"the token was not issued by {self._server.name} for {self.service}")

    def _candidates(self, name: object) -> list[VerificationKey]:
        """Return the keys that a token's ``kid`` names, or all where it names none of them."""
        named = [key for key in self._server.keys if name in key.names]
        return named or list(self._server.keys)


def load_keys(bundle: Path | None, jwks: Path | None) -> tuple[VerificationKey, ...]:
    """Read the certificates or keys of a PEM file, and those of a JSON Web Key Set."""
    keys: list[VerificationKey] = []
    for path, parse in ((bundle, _from_pem), (jwks, _from_jwks)):
        if path is None:
            continue
        try:
            found = list(parse(path.read_bytes()))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from None
        except Exception as error:  # whatever a parser makes of another's file
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(f"{path} holds no public keys: {reason}") from None
        if not found:
            raise ConfigError(f"{path} holds no key; give it an RSA, EC or Ed25519 key")
        keys += found
    return tuple(keys)


def _from_pem(content: bytes) -> Iterator[VerificationKey]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if b"-----BEGIN PUBLIC KEY-----" in content:
        yield _key(load_pem_public_key(content))
        return
    for certificate in x509.load_pem_x509_certificates(content):
        yield _key(certificate.public_key())


def _from_jwks(content: bytes) -> Iterator[VerificationKey]:
    import jwt

    for entry in json.loads(content)["keys"]:
        if entry.get("kty") == "oct":
            raise ValueError("a symmetric key is not a public key")
        yield _key(jwt.PyJWK(entry).key, entry.get("kid"))


def _key(public: object, name: str | None = None) -> VerificationKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if isinstance(public, rsa.RSAPublicKey):
        algorithms: tuple[str, ...] = _RSA
    elif isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _CURVES:
        algorithms = _CURVES[public.curve.name]
    elif isinstance(public, ed25519.Ed25519PublicKey):
        algorithms = ("EdDSA",)
    else:
        raise ValueError("only RSA, EC (P-256, P-384, P-521) and Ed25519 keys are supported")
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    names = {_fingerprint(der), name} - {None}
    return VerificationKey(public, frozenset(map(str, names)), algorithms)


def _fingerprint(der: bytes) -> str:
    """Return the name of a key as libtrust has it, which distribution's token servers use."""
    text = b32encode(hashlib.sha256(der).digest()[:30]).decode()
    return ":".join(text[i : i + 4] for i in range(0, len(text), 4))
