# SPDX-License-Identifier: Apache-2.0
"""The shell scripts that look at a node and install its distribution's Python."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.roles.harness import ROLES, base_python

FILES = ROLES / "install_buildset_registry" / "files"


class Node:
    """A PATH that holds what a test puts there, and what the scripts need of a bare system."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.log = folder / "log"
        self.log.touch()
        for name in ("id", "cat", "find", "sort", "cksum", "dirname"):
            (self.bin / name).symlink_to(str(shutil.which(name)))

    def program(self, name: str, script: str) -> None:
        """Put a program on PATH."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def run(self, script: str, *arguments: str) -> tuple[int, dict[str, str]]:
        """Run a script of the role and read what it prints."""
        done = subprocess.run(
            ["/bin/sh", FILES / script, *arguments],
            env={"PATH": str(self.bin), "HOME": "/home/someone"},
            capture_output=True,
            text=True,
        )
        lines = [line.partition("=") for line in done.stdout.splitlines()]
        return done.returncode, {key: value for key, _, value in lines}

    def calls(self) -> list[str]:
        """Tell what the package manager was asked for."""
        return self.log.read_text().splitlines()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node with nothing on it."""
    return Node(tmp_path)


def test_node_without_python(node: Node, tmp_path: Path) -> None:
    """Only the paths are told."""
    code, told = node.run("probe.sh", str(tmp_path / "venv"), "", "wanted", "")
    assert code == 0
    assert told["br_installed"] == "no"
    assert told["br_found"] == ""
    assert "br_python" not in told


def test_python_that_is_too_old_or_does_not_run(node: Node) -> None:
    """A version manager's stand-in and an old interpreter are passed over."""
    node.program("python3.12", "echo 'python3.12: command not found' >&2; exit 127")
    node.program("python3", 'case "$2" in *version_info*) exit 0 ;; esac')
    _, told = node.run("probe.sh", "", "", "wanted", "")
    assert told["br_found"] == ""


def test_python_without_venv_is_told_but_not_taken(node: Node) -> None:
    """Debian's Python without python3-venv can be completed."""
    bare = 'case "$2" in *version_info*) echo "$0" ;; *) exit 1 ;; esac'
    node.program("python3.13", bare)
    _, told = node.run("probe.sh", "", "", "wanted", "")
    assert told["br_found"] == str(node.bin / "python3.13")
    assert "br_python" not in told


def test_named_python_is_the_only_one_that_counts(node: Node) -> None:
    """No other interpreter is taken for one that the user named."""
    (node.bin / "python3").symlink_to(base_python())
    _, told = node.run("probe.sh", "", "/no/such/python", "wanted", "")
    assert told["br_found"] == ""
    _, told = node.run("probe.sh", "", "python3", "wanted", "")
    assert told["br_python"]


@pytest.mark.parametrize("marker", ["wanted python=any", "wanted python=any\n", "older", ""])
def test_the_marker_decides_what_is_installed(node: Node, tmp_path: Path, marker: str) -> None:
    """What is installed counts only when the marker that is written last names it."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    for name in ("python", "buildset-registry"):
        (venv / "bin" / name).symlink_to("/bin/sh")
    (venv / ".installed").write_text(marker)
    _, told = node.run("probe.sh", str(venv), "", "wanted", "")
    assert told["br_installed"] == ("yes" if marker.startswith("wanted") else "no")


def test_package_on_the_node_is_known_by_its_content(node: Node, tmp_path: Path) -> None:
    """A folder of wheels on the node may change."""
    house = tmp_path / "house"
    house.mkdir()
    _, before = node.run("probe.sh", "", "", "wanted", str(house))
    (house / "new.whl").touch()
    _, after = node.run("probe.sh", "", "", "wanted", str(house))
    assert before["br_wanted"] != after["br_wanted"]


def test_tilde_is_the_home_folder(node: Node) -> None:
    """A path may begin with a tilde, as the default for an ordinary user does."""
    _, told = node.run("probe.sh", "~/registry", "", "wanted", "")
    assert told["br_venv"] == "/home/someone/registry"


def test_debian_lists_are_fetched_when_they_are_missing(node: Node) -> None:
    """A fresh image knows no package until its lists are there."""
    fetched = node.log.with_name("fetched")
    node.program(
        "apt-get",
        f"""echo "$*" >>{node.log}
        case "$*" in *update) : >{fetched} ;; *) [ -e {fetched} ] ;; esac""",
    )
    code, _ = node.run("python.sh", "")
    assert code == 0
    install = "install -y --no-install-recommends python3 python3-venv"
    calls = [call.partition("Timeout=120 ")[2] for call in node.calls()]
    assert calls == [install, "update", install]


def test_debian_completes_the_python_that_is_there(node: Node) -> None:
    """A Python without venv gets the package of its own version."""
    node.program("apt-get", f'echo "$*" >>{node.log}')
    node.program("python3.12", "echo 3.12")
    node.run("python.sh", str(node.bin / "python3.12"))
    assert node.calls()[0].endswith(" python3.12-venv")


@pytest.mark.parametrize(
    ("manager", "available", "expected"),
    [
        ("dnf", "python3.12", ["python3.12"]),
        ("dnf", "python3.11", ["python3.12", "python3.11"]),
        ("dnf", "python3-pip", ["python3.12", "python3.11", "python3"]),
        ("zypper", "python311", ["python312", "python311"]),
        ("apk", "python3", ["python3"]),
    ],
)
def test_the_newest_python_of_a_distribution_is_installed(
    node: Node, manager: str, available: str, expected: list[str]
) -> None:
    """The newest Python that the distribution has is installed."""
    node.program(
        manager, f'echo "$*" >>{node.log}; case "$*" in *{available}*) ;; *) exit 1 ;; esac'
    )
    code, _ = node.run("python.sh", "")
    assert code == 0
    assert [call.split()[-2] for call in node.calls()] == expected


def test_nothing_is_done_on_an_unknown_distribution(node: Node) -> None:
    """Without a package manager that is known, nothing is done."""
    code, _ = node.run("python.sh", "")
    assert code == 1
