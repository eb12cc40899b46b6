# SPDX-License-Identifier: Apache-2.0
"""``gc`` beside a running registry and without one."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import time
from hashlib import sha256
from typing import Any

import pytest

from tests.instance.conftest import Desk

MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "layers": [],
}


def digest_of(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"


def push_blob(desk: Desk, facts: dict[str, Any], content: bytes) -> None:
    """Push a blob, as if that had been long ago."""
    asked: dict[str, Any] = {"which": "push_", "login": True}
    started = desk.ask(facts, "/v2/app/blobs/uploads/", "POST", **asked)
    location = started.headers["Location"]
    put = desk.ask(facts, f"{location}?digest={digest_of(content)}", "PUT", content, **asked)
    assert put.status == 201, put.content
    hexadecimal = digest_of(content)[7:]
    blobs = desk.root / "data/docker/registry/v2/blobs/sha256"
    os.utime(blobs / hexadecimal[:2] / hexadecimal / "data", (0, 0))


def push_image(desk: Desk, facts: dict[str, Any]) -> None:
    push_blob(desk, facts, b"{}")
    config = {"mediaType": "application/json", "digest": digest_of(b"{}"), "size": 2}
    raw = json.dumps(MANIFEST | {"config": config}).encode()
    asked: dict[str, Any] = {"which": "push_", "login": True}
    put = desk.ask(facts, "/v2/app/manifests/latest", "PUT", raw, **asked)
    assert put.status == 201, put.content


def has_blob(desk: Desk, facts: dict[str, Any], content: bytes) -> bool:
    return desk.ask(facts, f"/v2/app/blobs/{digest_of(content)}").status == 200


@pytest.fixture
def facts(desk: Desk) -> dict[str, Any]:
    """A registry with an image, and a blob that nothing refers to."""
    found: dict[str, Any] = desk.up()["facts"]
    push_image(desk, found)
    push_blob(desk, found, b"stray")
    time.sleep(2.2)  # what has just changed is spared
    return found


def test_a_running_registry_collects_when_told(desk: Desk, facts: dict[str, Any]) -> None:
    """A dry run tells what would go, then it goes; the image stays, and nothing stops meanwhile."""
    dry = desk.run("gc", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "would remove" in dry.stdout
    assert "1 blobs of 5 bytes" in dry.stdout
    assert has_blob(desk, facts, b"stray")
    report = json.loads(desk.run("gc", "--json").stdout)
    assert (report["dry_run"], report["blobs"], report["kept_blobs"]) == (False, 1, 2)
    assert not has_blob(desk, facts, b"stray")
    assert desk.ask(facts, "/v2/app/manifests/latest").status == 200
    assert "removed 0 uploads" in (desk.root / "log/registry.log").read_text()


def test_without_a_registry_the_command_collects(desk: Desk, facts: dict[str, Any]) -> None:
    """In the folder itself, by its configuration; the registry finds what is left."""
    desk.run("down")
    done = desk.run("gc")
    assert (done.returncode, done.stderr) == (0, "")
    assert "removed" in done.stdout.splitlines()[0]
    facts = desk.up()["facts"]
    assert not has_blob(desk, facts, b"stray")
    assert has_blob(desk, facts, b"{}")


def test_the_socket_of_a_killed_registry_is_in_nobodys_way(
    desk: Desk, facts: dict[str, Any]
) -> None:
    """Neither in that of the command nor of the next registry."""
    desk.kill(*desk.processes())
    assert json.loads(desk.run("gc", "--json").stdout)["blobs"] == 1
    desk.up()
    assert json.loads(desk.run("gc", "--json").stdout)["blobs"] == 0


def test_only_the_user_of_the_registry_may_ask(desk: Desk, facts: dict[str, Any]) -> None:
    """The socket has the mode that says so."""
    assert (desk.root / "data/control").stat().st_mode & 0o777 == 0o600


def test_a_folder_without_a_registry_is_one_line(desk: Desk) -> None:
    """One line, which says what to name."""
    assert "name its folder by --root" in desk.refused("gc")


def test_a_terminal_shows_how_far_it_is(desk: Desk, facts: dict[str, Any]) -> None:
    """And is clean at the end; the report is not disturbed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "buildset_registry", "gc", "--root", str(desk.root)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=True)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "] repositories " in shown or "uploads" in shown
    assert shown.endswith("\r\x1b[K")
    assert b"\x1b" not in done.stdout


def test_rules_that_broke_off_are_told_by_the_exit_code(desk: Desk) -> None:
    """Whoever has it run from time to time reads no report."""
    (desk.root / "data").mkdir(parents=True)
    config = desk.root / "config.yaml"
    config.write_text(
        "endpoints: {pull: {port: 1}}\nstorage: data\n"
        "retention: {rules: [{name: builds, keep_last: 1}]}\n"
    )
    assert desk.run("gc").returncode == 0
    documents = desk.root / "data/documents/retention"
    shutil.rmtree(documents)
    documents.touch()
    done = desk.run("gc")
    assert done.returncode == 1
    assert "retention: the rules are left out this time: " in done.stdout
    assert "Traceback" not in done.stderr
