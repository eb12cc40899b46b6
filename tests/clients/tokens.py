# SPDX-License-Identifier: Apache-2.0
"""A token server as distribution's ``auth: token`` wants one (its docs/spec/auth).

Anybody may pull; the one user there is may push as well.
"""

from __future__ import annotations

import base64
import http.server
import json
import secrets
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import jwt
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

SERVICE, ISSUER = "upstream", "tests"
USER = "upstream-user"
_SECONDS = 300


@dataclass(frozen=True)
class Signer:
    """What signs tokens, and what verifies them."""

    key: bytes
    chain: tuple[str, ...]
    """The certificate of the key, as the header ``x5c`` carries it (RFC 7515, 4.1.6)."""

    root: bytes
    """What distribution trusts: ``rootcertbundle``."""

    @classmethod
    def make(cls) -> Signer:
        """Make an authority and a key that it certifies."""
        authority = trustme.CA()
        leaf = authority.issue_cert("tokens.example.org", key_type=trustme.KeyType.RSA)
        certificates = [x509.load_pem_x509_certificate(pem.bytes()) for pem in leaf.cert_chain_pems]
        chain = [base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in certificates]
        return cls(leaf.private_key_pem.bytes(), tuple(chain), authority.cert_pem.bytes())

    def sign(self, user: str, access: list[dict[str, object]]) -> str:
        """Return a token that grants access."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": SERVICE,
            "sub": user,
            "access": access,
            "jti": secrets.token_hex(8),
            "iat": now,
            "nbf": now - 10,
            "exp": now + _SECONDS,
        }
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"x5c": list(self.chain)})


def _granted(scopes: list[str], user: str) -> list[dict[str, object]]:
    actions = ["pull", "push"] if user else ["pull"]
    access: list[dict[str, object]] = []
    for scope in " ".join(scopes).split():
        kind, name, _ = scope.split(":")
        access.append({"type": kind, "name": name, "actions": actions})
    return access


@contextmanager
def serving(
    address: tuple[str, int], leaf: trustme.LeafCert, signer: Signer, password: str
) -> Iterator[None]:
    """Answer requests for tokens by TLS."""
    expected = base64.b64encode(f"{USER}:{password}".encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            credentials = self.headers.get("Authorization")
            if credentials not in (None, f"Basic {expected}"):
                self._answer(401, {"details": "incorrect username or password"})
                return
            user = USER if credentials else ""
            query = parse_qs(urlsplit(self.path).query)
            token = signer.sign(user, _granted(query.get("scope", []), user))
            self._answer(200, {"token": token, "expires_in": _SECONDS})

        def _answer(self, status: int, tree: dict[str, object]) -> None:
            body = json.dumps(tree).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    with http.server.ThreadingHTTPServer(address, Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def write_root(signer: Signer, folder: Path) -> Path:
    """Write down what verifies the tokens."""
    path = folder / "tokens.pem"
    path.write_bytes(signer.root)
    return path
