# SPDX-License-Identifier: Apache-2.0
"""Tokens of an external server: verified by its public key, and by nothing that a token says."""

import base64
import datetime
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from buildset_registry.auth.external_tokens import ExternalTokens, TokenServer, load_keys
from buildset_registry.errors import ConfigError, Unauthorized
from buildset_registry.oci.names import RepositoryName
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER_EC = ec.generate_private_key(ec.SECP256R1())
#: A key that signs a certificate or a token.
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
ED = ed25519.Ed25519PrivateKey.generate()


def certificate(key: PrivateKey) -> bytes:
    """Return a self-signed certificate as PEM."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "token server")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    valid = {
        "iss": "tokens",
        "aud": "registry",
        "sub": "dev",
        "exp": now + 60,
        "nbf": now,
        "access": [{"type": "repository", "name": "org/app", "actions": ["pull"]}],
    }
    return {key: value for key, value in {**valid, **changes}.items() if value is not None}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> ExternalTokens:
    """Trusts a bundle of an RSA and an EC certificate, and an Ed25519 key of a key set."""
    folder = tmp_path_factory.mktemp("issuer")
    (folder / "bundle.pem").write_bytes(certificate(RSA) + certificate(EC))
    ed = jwt.algorithms.OKPAlgorithm.to_jwk(ED.public_key(), as_dict=True) | {"kid": "ed"}
    (folder / "jwks.json").write_text(json.dumps({"keys": [ed]}))
    keys = load_keys(folder / "bundle.pem", folder / "jwks.json")
    return ExternalTokens(TokenServer("https://tokens.example/token", "registry", "tokens", keys))


@pytest.mark.parametrize(
    ("key", "algorithm", "headers"),
    [
        (RSA, "RS256", {}),
        (RSA, "RS512", {}),
        (RSA, "PS256", {}),
        (EC, "ES256", {}),
        (EC, "ES256", {"kid": "a name that is not known"}),
        (ED, "EdDSA", {"kid": "ed"}),
    ],
)
def test_a_token_by_a_trusted_key_grants_what_it_says(
    tokens: ExternalTokens, key: Any, algorithm: str, headers: dict[str, str]
) -> None:
    """Grants what its access says."""
    identity = tokens.verify(jwt.encode(claims(), key, algorithm, headers))
    assert identity.name == "dev"
    assert identity.scopes == {RepositoryName("org/app"): frozenset({"pull"})}
    assert tokens.verify(jwt.encode(claims(aud=["a", "registry"]), key, algorithm)).name == "dev"


def test_a_key_is_found_by_the_name_that_distribution_gives_it(tokens: ExternalTokens) -> None:
    """libtrust's fingerprint, in the header kid."""
    der = EC.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    text = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    name = ":".join(text[i : i + 4] for i in range(0, 48, 4))
    assert tokens.verify(jwt.encode(claims(), EC, "ES256", {"kid": name})).name == "dev"
    with pytest.raises(Unauthorized):
        tokens.verify(jwt.encode(claims(), RSA, "RS256", {"kid": name}))


@pytest.mark.parametrize(
    ("changes", "key", "algorithm"),
    [
        ({}, OTHER_RSA, "RS256"),
        ({}, OTHER_EC, "ES256"),
        ({}, None, "none"),
        ({"iss": "others"}, EC, "ES256"),
        ({"iss": None}, EC, "ES256"),
        ({"aud": "another registry"}, EC, "ES256"),
        ({"exp": int(time.time()) - 3600}, EC, "ES256"),
        ({"exp": None}, EC, "ES256"),
        ({"nbf": int(time.time()) + 3600}, EC, "ES256"),
    ],
)
def test_any_other_token_is_refused(
    tokens: ExternalTokens, changes: dict[str, Any], key: Any, algorithm: str
) -> None:
    """Another key, no signature, another issuer or registry, expired, not yet valid."""
    with pytest.raises(Unauthorized):
        tokens.verify(jwt.encode(claims(**changes), key, algorithm))


@pytest.mark.parametrize("secret", [public_pem(RSA), certificate(RSA), public_pem(EC)])
def test_an_hmac_made_of_a_public_key_is_refused(tokens: ExternalTokens, secret: bytes) -> None:
    """Everybody has the public key: the key decides the algorithm, not the token."""

    def part(tree: bytes | dict[str, str]) -> str:
        raw = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    signed = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims())}"
    signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    with pytest.raises(Unauthorized):
        tokens.verify(f"{signed}.{part(signature)}")


def test_clocks_may_differ_a_little(tokens: ExternalTokens) -> None:
    """By a minute, as with distribution."""
    now = int(time.time())
    assert tokens.verify(jwt.encode(claims(exp=now - 30, nbf=now + 30), EC, "ES256")).name


@pytest.mark.parametrize("token", ["", "a.b.c", "a"])
def test_nonsense_is_refused(tokens: ExternalTokens, token: str) -> None:
    """With the same answer as a forgery."""
    with pytest.raises(Unauthorized):
        tokens.verify(token)


def test_a_public_key_alone_is_enough(tmp_path: Path) -> None:
    """Instead of a certificate."""
    file = tmp_path / "key.pem"
    file.write_bytes(public_pem(EC))
    keys = load_keys(file, None)
    tokens = ExternalTokens(TokenServer("https://t", "registry", "tokens", keys))
    assert tokens.verify(jwt.encode(claims(), EC, "ES256")).name == "dev"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        ("", "holds no public keys"),
        ("nonsense", "holds no public keys"),
        ('{"keys": []}', "holds no key"),
        ('{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}', "a symmetric key is not a public key"),
    ],
)
def test_a_file_without_a_usable_key_is_one_line(
    tmp_path: Path, content: str | None, message: str
) -> None:
    """At start-up, not at the first token."""
    file = tmp_path / "jwks.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_keys(None, file)
