# SPDX-License-Identifier: Apache-2.0
"""``status``: what of a registry needs a look, and the same for whoever runs ``serve`` himself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.instance.conftest import Desk
from tests.instance.test_gc import push_image


def subjects(desk: Desk) -> dict[str, str]:
    """Return what needs a look; the disk of this machine may."""
    found = {one["subject"]: one["message"] for one in desk.status()["attention"]}
    return {name: text for name, text in found.items() if "of the disk" not in text}


def of_configuration(desk: Desk, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``status`` by the configuration, as beside a ``serve`` of one's own."""
    argv = [sys.executable, "-m", "buildset_registry", "status", *words]
    argv += ["--config", str(desk.root / "config.yaml")]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


@pytest.fixture
def facts(desk: Desk) -> dict[str, Any]:
    """A registry that has just been started."""
    found: dict[str, Any] = desk.up()["facts"]
    return found


def test_a_registry_that_is_well_says_how_it_is(desk: Desk, facts: dict[str, Any]) -> None:
    """Until when its certificate is good, what is free of its disk, when it collected."""
    assert subjects(desk) == {}
    said = desk.run("status").stdout
    assert "certificate ends in 3,6" in said
    assert " GB are free" in said
    assert "collection  none yet; started " in said
    (process,) = desk.status()["processes"]
    assert process["pid"] in desk.processes()
    assert desk.run("gc").returncode == 0
    assert "collection  0 seconds ago; freed 0 bytes" in desk.run("status").stdout.replace(
        "1 s", "0 s"
    )


def test_what_a_collection_found_broken_is_said(desk: Desk, facts: dict[str, Any]) -> None:
    """It removes nothing until somebody looks."""
    push_image(desk, facts)
    for path in desk.root.glob("data/docker/registry/v2/blobs/sha256/*/*/data"):
        if b"schemaVersion" in path.read_bytes():
            path.write_bytes(b"{}")
    assert desk.run("gc").returncode == 1
    assert "is damaged; no blobs go: run buildset-registry verify" in subjects(desk)["collector"]
    assert "Needs a look:\n  collector: manifest app@sha256:" in desk.run("status").stdout


def test_a_full_disk_is_said(desk: Desk, facts: dict[str, Any]) -> None:
    """With the reason that the registry itself gives."""
    config = desk.root / "config.yaml"
    tree = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**tree, "limits": {"free_bytes": 10**15}}))
    desk.up()
    assert subjects(desk) == {
        "storage": "the disk is full; pushes are refused until that is mended"
    }


def test_a_configuration_of_ones_own_has_a_status_too(desk: Desk, facts: dict[str, Any]) -> None:
    """It has no facts, and so no password."""
    told = json.loads(of_configuration(desk, "--json").stdout)
    assert (told["running"], told["answers"], told["facts"]) == (True, True, None)
    assert told["pid"] in desk.processes()
    assert f"The registry of {desk.root}/config.yaml answers" in of_configuration(desk).stdout
    desk.run("down")
    stopped = of_configuration(desk)
    assert (stopped.returncode, stopped.stderr) == (3, "")
    assert "does not answer" in stopped.stdout


def test_health_is_an_exit_code(desk: Desk, facts: dict[str, Any]) -> None:
    """For whoever asks every few seconds; a line says which port does not answer."""
    for done in (desk.run("status", "--health"), of_configuration(desk, "--health")):
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    desk.run("down")
    done = desk.run("status", "--health")
    ports = f"{facts['port']}, {facts['push_port']}"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"buildset-registry: no answer on port {ports}\n"


def test_a_folder_without_a_registry_has_no_health(tmp_path: Path) -> None:
    """The line says what to name."""
    done = Desk(tmp_path / "none", (1, 2)).refused("status", "--health")
    assert "name its folder by --root, or its configuration by --config" in done
