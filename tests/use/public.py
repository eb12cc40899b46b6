# SPDX-License-Identifier: Apache-2.0
"""The public registries of a lab: distribution on the host that has their names.

It wants a token for everything, as public registries do, and gives anybody one to pull with. Both
servers are in the host's network and end with the host; their files are in build/public. Prints
the certificate to trust.
"""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable

import trustme

from tests.clients import tokens
from tests.lab.__main__ import FOLDER
from tests.lab.keeper import REPOSITORY
from tests.lab.lab import Lab

PUBLIC = REPOSITORY / "build" / "public"
HOST, ADDRESS = "upstream", "198.51.100.13"
_TOKENS, _PORT = "auth.example.com", 8443
NAMES = ("quay.io", "registry-1.docker.io", "registry.example.com", _TOKENS, ADDRESS)
_SECONDS = 60


def serve() -> None:
    """Give tokens, and run distribution, for as long as the host lives."""
    authority, signer, password = trustme.CA(), tokens.Signer.make(), secrets.token_hex()
    leaf = authority.issue_cert(*NAMES)
    authority.cert_pem.write_to_path(PUBLIC / "ca.pem")
    (PUBLIC / "password").write_text(password)
    tokens.write_root(signer, PUBLIC)
    write_settings(leaf)
    with tokens.serving((ADDRESS, _PORT), leaf, signer, password):
        subprocess.run(["docker-registry", "serve", str(PUBLIC / "config.json")], check=True)


def write_settings(leaf: trustme.LeafCert) -> None:
    """Write distribution's configuration; JSON is YAML as well."""
    (PUBLIC / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(PUBLIC / "key.pem")
    tls = {"certificate": str(PUBLIC / "cert.pem"), "key": str(PUBLIC / "key.pem")}
    token = {
        "realm": f"https://{_TOKENS}:{_PORT}/token",
        "service": tokens.SERVICE,
        "issuer": tokens.ISSUER,
        "rootcertbundle": str(PUBLIC / "tokens.pem"),
    }
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(PUBLIC / "data")}},
        "http": {"addr": f"{ADDRESS}:443", "secret": "of-the-lab", "tls": tls},
        "auth": {"token": token},
    }
    (PUBLIC / "config.json").write_text(json.dumps(settings))


def start() -> None:
    """Start both on the host, and wait until distribution listens."""
    shutil.rmtree(PUBLIC, ignore_errors=True)
    PUBLIC.mkdir(parents=True)
    host = Lab.read(FOLDER).hosts[HOST].number
    enter = ["nsenter", f"--target={host}", "--net", "--pid", "--"]
    log = PUBLIC / "log"
    with log.open("w") as output:
        command = [*enter, sys.executable, "-m", "tests.use.public", "serve"]
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    deadline = time.monotonic() + _SECONDS
    while "listening on" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    # It outlives this process: it is the lab's.
    process.returncode = 0


def token(paths: Iterable[str]) -> str:
    """Get a token to push to repositories with, from within the lab's network."""
    scopes = [("scope", f"repository:{path}:pull,push") for path in paths]
    query = urllib.parse.urlencode([("service", tokens.SERVICE), *scopes])
    login = f"{tokens.USER}:{(PUBLIC / 'password').read_text()}"
    headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    url = f"https://{ADDRESS}:{_PORT}/token?{query}"
    trusting = ssl.create_default_context(cafile=str(PUBLIC / "ca.pem"))
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, context=trusting) as answer:  # noqa: S310  # it is https
        return str(json.load(answer)["token"])


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        start()
        sys.stdout.write((PUBLIC / "ca.pem").read_text())
