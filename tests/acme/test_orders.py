# SPDX-License-Identifier: Apache-2.0
"""Certificates by ACME: ordered, shown, renewed, kept; and the faults of whoever issues them."""

from __future__ import annotations

import functools
import itertools
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509

from tests.acme.pebble import HMAC, KEY_ID, Pebble, make
from tests.acme.registry import AcmeRegistry, taken
from tests.api.harness import digest_of
from tests.ports import free_port
from tests.pulling import pulling
from tests.stores.fixtures import ObjectStores
from tests.waiting import wait_until

BLOB = os.urandom(2 * 1024 * 1024)
DOCUMENTS = Path("data", "documents", "acme")


@pytest.fixture(scope="module")
def pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """One that runs for all tests that need none of their own; certificates live for an hour."""
    made = make(tmp_path_factory.mktemp("acme") / "pebble", free_port())
    with made.serving():
        yield made


def test_a_certificate_is_ordered_shown_and_kept(pebble: Pebble, tmp_path: Path) -> None:
    """A client that trusts the authority alone pulls; a restart orders nothing."""
    registry = AcmeRegistry(tmp_path / "registry", pebble, names=["localhost", "127.0.0.1"])
    with registry.serving():
        registry.wait_until_issued()
        with registry.client(pebble.root) as client:
            assert client.get("/v2/").status_code == 200
            assert client.get(f"https://127.0.0.1:{registry.port}/v2/").status_code == 200
        first = registry.shown()
        assert registry.metric("certificate_end_seconds") == pytest.approx(
            first.not_valid_after_utc.timestamp()
        )
        assert registry.metric('acme_orders_total{result="issued"}') == 1
        assert registry.metric('acme_orders_total{result="failed"}') == 0
    files = [path for path in (registry.folder / DOCUMENTS).iterdir() if path.is_file()]
    assert len(files) == 4, files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    with registry.serving():
        assert registry.shown() == first
        assert registry.metric('acme_orders_total{result="issued"}') == 0


@contextmanager
def pulled(registry: AcmeRegistry, root: str) -> Iterator[list[int]]:
    """Push a blob, and pull it by new connections all the time; yields the number of pulls."""
    with registry.client(root) as client:
        started = client.post("/v2/app/blobs/uploads/")
        location, digest = started.headers["location"], digest_of(BLOB)
        assert client.put(location, params={"digest": digest}, content=BLOB).status_code == 201

    def get() -> bytes:
        with registry.client(root) as client:
            return client.get(f"/v2/app/blobs/{digest}").content

    with pulling(get, BLOB, 2) as whole:
        yield whole


def test_certificates_of_seconds_are_renewed_while_pulls_run(tmp_path: Path) -> None:
    """Three in a row are shown; no pull breaks, none is refused, and no process is restarted."""
    pebble = make(tmp_path / "pebble", free_port(), seconds=16)
    registry = AcmeRegistry(tmp_path / "registry", pebble)
    with pebble.serving(), registry.serving():
        registry.wait_until_issued()
        with pulled(registry, pebble.root) as pulls:
            seen: list[x509.Certificate] = []

            def renewed() -> bool:
                shown = registry.shown()
                if not seen or shown != seen[-1]:
                    seen.append(shown)
                return len(seen) >= 3

            wait_until(renewed, registry.log.read_text())
            before = pulls[0]
            wait_until(lambda: pulls[0] > before + 4, "pulls go on")
        assert registry.metric('acme_orders_total{result="failed"}') == 0
    begins = [one.not_valid_before_utc.timestamp() for one in seen]
    # At half of its life, long before the end.
    assert all(later - earlier < 16 for earlier, later in itertools.pairwise(begins))


def test_a_server_that_is_down_is_tried_again(tmp_path: Path) -> None:
    """One line says so; the registry serves meanwhile; the account is used again later."""
    pebble = make(tmp_path / "pebble", free_port())
    registry = AcmeRegistry(tmp_path / "registry", pebble)
    with registry.serving():
        wait_until(lambda: registry.said("ERROR", "cannot connect to 127.0.0.1"), "it says so")
        assert registry.said("no certificate was issued for localhost", "Connection refused")
        assert not registry.issued()
        assert registry.metric("acme_failures") >= 1
        with pebble.serving():
            registry.wait_until_issued()
            assert registry.metric("acme_failures") == 0
        account = sorted((registry.folder / DOCUMENTS).glob("account-*"))[0]
        known = account.read_bytes()
    assert "Traceback" not in registry.log.read_text()
    # One that has forgotten its accounts gets a new one.
    (registry.folder / DOCUMENTS / "certificate.json").unlink()
    with pebble.serving(), registry.serving():
        registry.wait_until_issued()
        assert account.read_bytes() != known


def test_a_port_that_is_taken_is_told_and_tried_again(pebble: Pebble, tmp_path: Path) -> None:
    """No order is made in vain; it goes on when the port is free."""
    registry = AcmeRegistry(tmp_path / "registry", pebble)
    port = taken(pebble.http_port)
    with registry.serving():
        line = f"cannot listen on acme port {pebble.http_port}"
        wait_until(lambda: registry.said("no certificate was issued", line), "it says so")
        assert registry.said(line, "Address already in use; stop what uses it or choose another")
        port.close()
        registry.wait_until_issued()


def test_a_web_server_answers_from_its_folder(pebble: Pebble, tmp_path: Path) -> None:
    """The registry listens on no further port, and leaves no file behind."""
    webroot = tmp_path / "www"
    webroot.mkdir()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(webroot))
    server = ThreadingHTTPServer(("127.0.0.1", pebble.http_port), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    registry = AcmeRegistry(tmp_path / "registry", pebble, webroot=str(webroot))
    try:
        with registry.serving():
            registry.wait_until_issued()
    finally:
        server.shutdown()
        server.server_close()
    assert [path for path in webroot.rglob("*") if path.is_file()] == []


def test_an_account_is_bound_to_one_with_the_authority(tmp_path: Path) -> None:
    """The key may be in a file; without it, and with a wrong one, one line says what is missing."""
    pebble = make(tmp_path / "pebble", free_port(), bound=True)
    (tmp_path / "hmac").write_text(f"{HMAC}\n")
    wrong = AcmeRegistry(
        tmp_path / "wrong", pebble, external_account={"keyid": KEY_ID, "hmac": HMAC[::-1]}
    )
    without = AcmeRegistry(tmp_path / "without", pebble)
    right = AcmeRegistry(
        tmp_path / "right",
        pebble,
        external_account={"keyid": KEY_ID, "hmac_file": str(tmp_path / "hmac")},
    )
    with pebble.serving():
        with without.serving():
            wait_until(lambda: without.said("set acme.external_account"), "it says so")
        with wrong.serving():
            wait_until(lambda: wrong.said("no certificate was issued", "refuses"), "it says so")
            assert HMAC[::-1] not in wrong.log.read_text()
        with right.serving():
            right.wait_until_issued()
            assert HMAC not in right.log.read_text()


def test_one_of_two_replicas_orders_and_both_answer(tmp_path: Path) -> None:
    """The authority asks the one; whoever ordered, both show one certificate."""
    pebble = make(tmp_path / "pebble", free_port(), seconds=30)
    shared = str(tmp_path / "shared")
    asked = AcmeRegistry(tmp_path / "asked", pebble, folder=shared)
    other = AcmeRegistry(tmp_path / "other", pebble, folder=shared, port=free_port())
    with pebble.serving(), asked.serving(), other.serving():
        asked.wait_until_issued()
        other.wait_until_issued()
        wait_until(lambda: asked.shown() == other.shown(), "both show the same")
        issued = 'acme_orders_total{result="issued"}'
        assert asked.metric(issued) + other.metric(issued) == 1


def test_replicas_share_the_certificate_in_their_bucket(
    object_stores: ObjectStores, tmp_path: Path
) -> None:
    """One orders; the one that the authority asks answers; who starts later orders nothing."""
    pebble, server = make(tmp_path / "pebble", free_port()), object_stores.minio
    storage = {"s3": server.settings(server.bucket())}
    asked = AcmeRegistry(tmp_path / "asked", pebble)
    other = AcmeRegistry(tmp_path / "other", pebble, port=free_port())
    for one in (asked, other):
        one.settings["storage"] = storage
    issued = 'acme_orders_total{result="issued"}'
    with asked.serving():
        with pebble.serving(), other.serving():
            asked.wait_until_issued()
            wait_until(lambda: asked.shown() == other.shown(), "both show the same")
            assert asked.metric(issued) + other.metric(issued) == 1
        with other.serving():
            assert asked.shown() == other.shown()
            assert other.metric(issued) == 0
    assert not list(tmp_path.rglob("certificate.json"))


def test_up_and_status_know_of_it(tmp_path: Path) -> None:
    """``up`` makes no certificate of its own; ``status`` says why there is none, or until when."""
    pebble = make(tmp_path / "pebble", free_port())
    root = tmp_path / "root"
    settings = {"acme": AcmeRegistry(tmp_path / "unused", pebble).acme}

    def run(name: str, *words: str, stdin: str = "") -> str:
        command = [sys.executable, "-m", "buildset_registry", name, "--root", str(root), *words]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout

    options = ["--host", "localhost", "--single-port", "--port", str(free_port())]
    options += ["--supervisor", "process", "--json", "--report", "--settings-file", "-"]
    try:
        report = json.loads(run("up", *options, stdin=json.dumps(settings)))
        assert report["facts"]["cert"] is None
        assert not (root / "server.pem").exists()
        told = "no certificate is issued: cannot connect to 127.0.0.1"
        wait_until(lambda: told in run("status"), "status says so")
        with pebble.serving():
            wait_until(lambda: json.loads(run("status", "--json"))["certificate"]["ends"], "issued")
        found = json.loads(run("status", "--json"))
        assert [one for one in found["attention"] if one["subject"] == "certificate"] == []
        again = json.loads(run("up", *options, stdin=json.dumps(settings)))
        assert again["changes"] == []
    finally:
        run("down", "--purge")
