# SPDX-License-Identifier: Apache-2.0
"""Certificates that are replaced while the registry serves."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.api.harness import Harness, digest_of
from tests.ports import free_port
from tests.pulling import pulling
from tests.waiting import wait_until

BLOB = os.urandom(8 * 1024 * 1024)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def harness(tmp_path: Path, authority: trustme.CA) -> Iterator[Harness]:
    with Harness(tmp_path, authority) as made:
        yield made


def replace(folder: Path, authority: trustme.CA, *, key: bool = True) -> str:
    """Put another certificate in the place of the one before; returns it as it is shown."""
    leaf = authority.issue_cert("127.0.0.1", "localhost")
    (folder / "new.pem").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    (folder / "new.pem").replace(folder / "server.pem")
    if key:
        (folder / "new.key").write_bytes(leaf.private_key_pem.bytes())
        (folder / "new.key").replace(folder / "server.key")
    return leaf.cert_chain_pems[0].bytes().decode()


def shown(port: Any) -> str:
    """Return the certificate that a listener shows."""
    return ssl.get_server_certificate(("127.0.0.1", int(port)), timeout=60)


def wait_until_shown(port: Any, certificate: str) -> None:
    wait_until(lambda: shown(port).split() == certificate.split(), "another certificate is shown")


def port_of(client: httpx.Client) -> int:
    return int(client.base_url.port or 0)


def test_a_replaced_certificate_is_shown_and_no_transfer_breaks(
    harness: Harness, authority: trustme.CA, tmp_path: Path
) -> None:
    """To new connections of every endpoint; a transfer that ran ends whole, nobody is refused."""
    registry = harness.start()
    digest = registry.push_blob("app", BLOB)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    url = f"{registry.pull.base_url}/v2/app/blobs/{digest}"

    def get() -> bytes:
        with httpx.Client(verify=trusted, timeout=60) as client:
            return client.get(url).content

    with registry.pull.stream("GET", f"/v2/app/blobs/{digest}") as running:
        pieces = running.iter_raw(1000)
        got = next(pieces)
        with pulling(get, BLOB, 3) as pulls:
            for _number in range(4):
                before = pulls[0]
                new = replace(tmp_path, authority)
                wait_until_shown(port_of(registry.pull), new)
                wait_until_shown(port_of(registry.push), new)
                while pulls[0] < before + 4:
                    time.sleep(0.01)
        got += b"".join(pieces)
    assert digest_of(got) == digest
    registry.wait_for_log("serves a new certificate")


def test_a_pair_that_does_not_belong_together_is_refused(
    harness: Harness, authority: trustme.CA, tmp_path: Path
) -> None:
    """By one line of the log; the certificate before stays until there is a whole new pair."""
    registry = harness.start()
    port = port_of(registry.push)
    old = shown(port)
    replace(tmp_path, authority, key=False)
    registry.wait_for_log("the certificate before stays")
    time.sleep(2)
    assert registry.log.read_text().count("the certificate before stays") == 1
    assert shown(port) == old
    (tmp_path / "server.pem").write_text("nonsense")
    time.sleep(2)
    assert shown(port) == old
    wait_until_shown(port, replace(tmp_path, authority))


def test_the_proxy_for_docker_shows_a_replaced_certificate(
    harness: Harness, authority: trustme.CA, tmp_path: Path
) -> None:
    """On its own port, and in the place of another registry."""
    leaf = authority.issue_cert("registry.example")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "proxy.pem")
    port = free_port()
    tls = {"certificate": str(tmp_path / "proxy.pem"), "key": str(tmp_path / "proxy.pem")}
    harness.start(
        proxy={"port": port, "address": "127.0.0.1", "tls": tls, "registries": ["registry.example"]}
    )
    wait_until_shown(port, replace(tmp_path, authority))
