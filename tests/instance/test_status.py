# SPDX-License-Identifier: Apache-2.0
"""``status``: what of a registry needs a look, and the same for whoever runs ``serve`` himself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.instance.conftest import Desk
from tests.instance.test_gc import push_image
from tests.ports import free_port


def subjects(desk: Desk) -> dict[str, str]:
    """Return what needs a look; the disk of this machine may."""
    found = {one["subject"]: one["message"] for one in desk.status()["attention"]}
    return {name: text for name, text in found.items() if "of the disk" not in text}


def of_configuration(desk: Desk, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``status`` by the configuration, as beside a ``serve`` of one's own."""
    argv = [sys.executable, "-m", "buildset_registry", "status", *words]
    argv += ["--config", str(desk.root / "config.yaml")]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A registry that nothing is wrong with."""
    made = Desk(tmp_path_factory.mktemp("status") / "root", (free_port(), free_port()))
    made.up()
    yield made
    made.run("down", "--purge")


def test_a_registry_that_is_well_says_how_it_is(served: Desk) -> None:
    """Until when its certificate is good, what is free of its disk, when it collected."""
    assert subjects(served) == {}
    said = served.run("status").stdout
    assert "certificate ends in 3,6" in said
    assert re.search(r"storage     [0-9,.]+ .B of [0-9,.]+ .B are free", said)
    assert "collection  none yet; started " in said
    assert served.run("gc").returncode == 0
    said = served.run("status").stdout
    assert re.search(r"collection  \d+ \w+ ago; freed 0 bytes since \d+ \w+ ago", said)


def test_a_configuration_of_ones_own_has_a_status_too(served: Desk) -> None:
    """It has no facts, and so no password."""
    told = json.loads(of_configuration(served, "--json").stdout)
    assert (told["running"], told["answers"], told["facts"]) == (True, True, None)
    assert told["pid"] in served.processes()
    assert f"The registry of {served.root}/config.yaml answers" in of_configuration(served).stdout


def test_health_is_an_exit_code(served: Desk) -> None:
    """For whoever asks every few seconds."""
    for done in (served.run("status", "--health"), of_configuration(served, "--health")):
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_wrong_is_said(desk: Desk) -> None:
    """What a collection found broken, a full disk in the registry's own words, a silent port."""
    facts = desk.up()["facts"]
    push_image(desk, facts)
    for path in desk.root.glob("data/docker/registry/v2/blobs/sha256/*/*/data"):
        if b"schemaVersion" in path.read_bytes():
            path.write_bytes(b"{}")
    assert desk.run("gc").returncode == 1
    assert "is damaged; no blobs go: run buildset-registry verify" in subjects(desk)["collector"]
    assert "Needs a look:\n  collector: manifest app@sha256:" in desk.run("status").stdout
    config = desk.root / "config.yaml"
    tree = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**tree, "limits": {"free_bytes": 10**15}}))
    desk.up()
    full = "the disk is full; pushes are refused until that is mended"
    assert subjects(desk) == {"storage": full}
    desk.run("down")
    stopped = of_configuration(desk)
    assert (stopped.returncode, stopped.stderr) == (3, "")
    assert "does not answer" in stopped.stdout
    done = desk.run("status", "--health")
    ports = f"{facts['port']}, {facts['push_port']}"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"buildset-registry: no answer on port {ports}\n"


def test_a_folder_without_a_registry_has_no_health(tmp_path: Path) -> None:
    """The line says what to name."""
    done = Desk(tmp_path / "none", (1, 2)).refused("status", "--health")
    assert "name its folder by --root, or its configuration by --config" in done
