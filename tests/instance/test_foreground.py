# SPDX-License-Identifier: Apache-2.0
"""``up --foreground``: the registry in the process that was started, as in a container."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.instance.conftest import Desk
from tests.ports import free_port


def begin(desk: Desk, output: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start it, and wait until it answers."""
    words = ("--port", str(desk.ports[0]), "--push-port", str(desk.ports[1]), *words)
    up = ["up", "--foreground", "--root", str(desk.root), "--host", "127.0.0.1", *words]
    with output.open("wb") as file:
        argv = [sys.executable, "-m", "buildset_registry", *up]
        process = subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 60
    while b" serves: " not in output.read_bytes():
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.02)
    return process


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the registry, and of what it says."""
    return tmp_path_factory.mktemp("foreground")


@pytest.fixture(scope="module")
def served(folder: Path) -> Desk:
    """The folder of a registry, which has ports."""
    return Desk(folder / "root", (free_port(), free_port()))


@pytest.fixture(scope="module")
def process(served: Desk, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The registry in the foreground."""
    started = begin(served, folder / "output", "--json")
    yield started
    started.kill()
    started.wait()


def test_it_serves_where_it_was_started(
    served: Desk, process: subprocess.Popen[bytes], folder: Path
) -> None:
    """In that very process, which tells its facts in a line, and then its log."""
    status = served.status()
    assert (status["pid"], status["supervisor"]) == (process.pid, "foreground")
    assert (status["answers"], status["log"]) == (True, None)
    assert served.ask(status["facts"], which="push_", login=True).status == 200
    told, *log = (folder / "output").read_text().splitlines()
    assert json.loads(told) == status["facts"]
    assert not [line for line in log if status["facts"]["password"] in line]


def test_two_do_not_serve_one_folder(served: Desk, process: subprocess.Popen[bytes]) -> None:
    """The second one says which process to end."""
    assert f"already (process {process.pid}); end it" in served.refused("up", "--foreground")
    assert process.poll() is None


def test_the_same_number_elsewhere_is_not_ended(
    served: Desk, process: subprocess.Popen[bytes]
) -> None:
    """In a container it is 1, which is another process to whoever looks from outside."""
    lock = served.root / "run" / "lock"
    with subprocess.Popen(["sleep", "60"]) as other:
        lock.write_text(str(other.pid))
        assert "in a container perhaps; stop it there" in served.refused("down")
        assert other.poll() is None
        other.kill()
    lock.write_text(str(process.pid))


def test_down_ends_it_and_what_is_there_stays(desk: Desk, tmp_path: Path) -> None:
    """It told how to use it, and no password; in the background it has the same facts."""
    process = begin(desk, tmp_path / "output")
    facts = desk.status()["facts"]
    assert desk.run("down").returncode == 0
    assert process.wait(60) == 0
    said = (tmp_path / "output").read_text()
    assert "podman push --cert-dir certs IMAGE" in said
    assert facts["password"] not in said
    again = begin(desk, tmp_path / "again")
    assert desk.up()["facts"] == facts
    assert again.wait(60) == 0
    assert not (desk.root / "log").exists()


def test_a_dry_run_serves_nothing(desk: Desk) -> None:
    """It tells what would change, and ends."""
    done = desk.run("up", "--foreground", "--check", "--host", "127.0.0.1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("would change: certificate, credentials, configuration, started")
    assert not desk.root.exists()
