# SPDX-License-Identifier: Apache-2.0
"""The certificate and the user that all registries of a run have."""

from __future__ import annotations

import ssl
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import bcrypt
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from trustme import CA

#: What ``up`` gives bcrypt; htpasswd takes 5, most libraries 12.
_COST = 10

USER, PASSWORD = "bench", "correct horse"
BASIC = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@dataclass(frozen=True)
class Identity:
    """Files in one folder, and a client's trust in them."""

    authority: Path
    certificate: Path
    key: Path
    htpasswd: Path
    trust: ssl.SSLContext

    @classmethod
    def make(cls, folder: Path, *names: str) -> Identity:
        """Write all files into ``folder``, in the form in which ``buildset-registry up`` does."""
        folder.mkdir(parents=True, exist_ok=True)
        ca = CA()
        leaf = ca.issue_cert("127.0.0.1", "localhost", *names)
        made = cls(
            folder / "ca.pem",
            folder / "tls.pem",
            folder / "tls.key",
            folder / "htpasswd",
            ssl.create_default_context(),
        )
        ca.cert_pem.write_to_path(str(made.authority))
        made.certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
        made.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        made.htpasswd.write_text(
            f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(_COST)).decode()}\n"
        )
        ca.configure_trust(made.trust)
        return made
