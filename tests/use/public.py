# SPDX-License-Identifier: Apache-2.0
"""The public registries of a lab: distribution on the host that has their names.

It is in the host's network and ends with the host; its files are in build/public. Prints the
certificate to trust.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import trustme

from tests.lab.__main__ import FOLDER
from tests.lab.keeper import REPOSITORY
from tests.lab.lab import Lab

PUBLIC = REPOSITORY / "build" / "public"
HOST, ADDRESS = "upstream", "198.51.100.13"
NAMES = ("quay.io", "registry-1.docker.io", "registry.example.com", ADDRESS)
_SECONDS = 30


def write_settings() -> None:
    """Make certificates and distribution's configuration; JSON is YAML as well."""
    shutil.rmtree(PUBLIC, ignore_errors=True)
    PUBLIC.mkdir(parents=True)
    authority = trustme.CA()
    leaf = authority.issue_cert(*NAMES)
    authority.cert_pem.write_to_path(PUBLIC / "ca.pem")
    (PUBLIC / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(PUBLIC / "key.pem")
    tls = {"certificate": str(PUBLIC / "cert.pem"), "key": str(PUBLIC / "key.pem")}
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(PUBLIC / "data")}},
        "http": {"addr": f"{ADDRESS}:443", "secret": "of-the-lab", "tls": tls},
    }
    (PUBLIC / "config.json").write_text(json.dumps(settings))


def start() -> None:
    """Start distribution, and wait until it listens."""
    host = Lab.read(FOLDER).hosts[HOST].number
    enter = ["nsenter", f"--target={host}", "--net", "--pid", "--"]
    log = PUBLIC / "log"
    with log.open("w") as output:
        command = [*enter, "docker-registry", "serve", str(PUBLIC / "config.json")]
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    deadline = time.monotonic() + _SECONDS
    while "listening on" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    # It outlives this process: it is the lab's.
    process.returncode = 0


if __name__ == "__main__":
    write_settings()
    start()
    sys.stdout.write((PUBLIC / "ca.pem").read_text())
