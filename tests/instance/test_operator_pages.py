# SPDX-License-Identifier: Apache-2.0
"""The steps of docs/how-to/look-after.rst and gone-wrong.rst, as they stand there."""

from __future__ import annotations

import json
import os
import ssl
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from tests.documented import Operator, steps
from tests.instance.conftest import Desk
from tests.instance.test_gc import push_image


@pytest.fixture
def facts(desk: Desk, tmp_path: Path) -> dict[str, Any]:
    """A registry with an image, ``app:latest``, which asks nobody else for it."""
    (tmp_path / "upstreams").write_text("[]")
    found: dict[str, Any] = desk.up("--upstreams-file", tmp_path / "upstreams")["facts"]
    push_image(desk, found)
    return found


@pytest.fixture
def operator(desk: Desk, tmp_path: Path) -> Operator:
    """Whoever looks after it."""
    backup = tmp_path / "backup"
    return Operator(tmp_path / "operator", desk.root, {"/srv/backup": str(backup)})


def status_of(desk: Desk, facts: dict[str, Any], reference: str = "latest") -> int:
    """Ask for the image."""
    return desk.ask(facts, f"/v2/app/manifests/{reference}").status


def test_a_backup_is_whole_and_brings_back_what_was_lost(
    desk: Desk, facts: dict[str, Any], operator: Operator
) -> None:
    """The image, the credentials and the certificate; made while it serves, twice."""
    for _ in range(2):
        *copies, verify = steps("look-after", "Back up")
        for command in copies:
            operator.type(command)
        assert "1 manifests and 1 tags in 1 repositories: nothing broken" in operator.type(verify)
    deleted = desk.ask(facts, "/v2/app/manifests/latest", "DELETE", which="push_", login=True)
    assert deleted.status == 202
    assert status_of(desk, facts) == 404
    for name in ("server.key", "password", "config.yaml"):
        (desk.root / name).write_text("lost")
    for command in steps("look-after", "Restore"):
        operator.type(command)
    assert desk.status()["facts"] == facts
    assert status_of(desk, facts) == 200
    assert desk.run("gc").returncode == 0


def test_an_upgrade_is_a_restart(desk: Desk, facts: dict[str, Any], operator: Operator) -> None:
    """All that there was is there, served by another process."""
    before = desk.status()["pid"]
    restart, status = steps("look-after", "Upgrade")
    operator.type(restart)
    assert " answers\n" in operator.type(status)
    assert desk.status()["pid"] != before
    assert status_of(desk, facts) == 200
    (shown,) = steps("look-after", "What needs a look")
    assert "certificate ends in" in operator.type(shown)


def test_a_full_disk_gets_room_again(desk: Desk, facts: dict[str, Any], operator: Operator) -> None:
    """Nothing can be pushed, but deleted and collected; then there is room."""
    config = desk.root / "config.yaml"
    tree = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**tree, "limits": {"free_bytes": 10**15}}))
    desk.up()
    refused = desk.ask(facts, "/v2/app/blobs/uploads/", "POST", which="push_", login=True)
    assert refused.status == 507
    assert status_of(desk, facts) == 200
    digest = desk.ask(facts, "/v2/app/manifests/latest").headers["Docker-Content-Digest"]
    # Long ago, by the times of its files.
    for path in desk.root.glob("data/docker/registry/v2/blobs/*/*/*/data"):
        os.utime(path, (0, 0))
    operator.places = {
        "https://localhost:5001/v2/org/app/manifests/sha256:1a2b...": (
            f"https://localhost:{facts['push_port']}/v2/app/manifests/{digest}"
        ),
    }
    dry, delete, collect, status = steps("gone-wrong", "The disk is full")
    assert "would remove" in operator.type(dry)
    operator.type(delete)
    time.sleep(2.2)  # what has just changed is spared
    assert "manifests, 0 cached images, 2 blobs" in operator.type(collect)
    assert "storage: the disk is full" in operator.type(status)
    config.write_text(yaml.safe_dump(tree))
    desk.up()
    push_image(desk, facts)
    assert status_of(desk, facts) == 200


def test_an_ended_certificate_is_followed_by_another(
    desk: Desk, facts: dict[str, Any], operator: Operator
) -> None:
    """By ``up``, which tells new facts; and by a pair of one's own, without a restart."""
    authority = trustme.CA()
    ended = datetime.now(timezone.utc) - timedelta(days=1)
    pairs = {
        "old": authority.issue_cert("127.0.0.1", not_after=ended),
        "new": authority.issue_cert("127.0.0.1", "localhost"),
    }
    for name, pair in pairs.items():
        pair.private_key_pem.write_to_path(operator.folder / f"{name}.key")
        chain = b"".join(one.bytes() for one in pair.cert_chain_pems)
        (operator.folder / f"{name}.pem").write_bytes(chain)
    up, *own = steps("gone-wrong", "The certificate has ended")
    for command in own:
        operator.type(command.replace("new.", "old."))
    wait_for(desk, authority, ended=True)
    (finding,) = [one for one in desk.status()["attention"] if one["subject"] == "certificate"]
    assert "the certificate ended on" in finding["message"]
    pid = desk.status()["processes"][0]["pid"]
    for command in own:
        operator.type(command)
    wait_for(desk, authority, ended=False)
    assert desk.status()["processes"][0]["pid"] == pid
    for command in own:
        operator.type(command.replace("new.", "old."))
    operator.type(f"{up} --root {desk.root} --supervisor process")
    again = desk.status()["facts"]
    assert again["cert"] != facts["cert"]
    assert status_of(desk, again) == 200


def wait_for(desk: Desk, authority: trustme.CA, *, ended: bool) -> None:
    """Wait until the registry serves a certificate of an authority."""
    pem = authority.cert_pem.bytes().decode()
    facts = {**desk.status()["facts"], "cert": pem}
    deadline = time.monotonic() + 60
    while True:
        try:
            desk.ask(facts)
            seen = "new"
        except ssl.SSLCertVerificationError as error:
            seen = "old" if "expired" in str(error) else "another"
        if seen == ("old" if ended else "new"):
            return
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)


def test_damage_is_named_and_mended(desk: Desk, facts: dict[str, Any], operator: Operator) -> None:
    """What cannot be mended is removed, and garbage is collected again."""
    for path in desk.root.glob("data/docker/registry/v2/blobs/*/*/*/data"):
        if b"schemaVersion" in path.read_bytes():
            path.write_bytes(b"{}")
    verify, stop, repair, start = steps("gone-wrong", "Something is damaged")
    assert "broken" in operator.type(verify, code=1)
    operator.type(stop)
    assert "removed" in operator.type(repair)
    operator.type(start)
    assert json.loads(desk.run("gc", "--json").stdout)["problems"] == []
    push_image(desk, facts)
    assert status_of(desk, facts) == 200
