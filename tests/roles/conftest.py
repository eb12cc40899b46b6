# SPDX-License-Identifier: Apache-2.0
"""Desks to run the roles from: as root where the tests are, as an ordinary user, and as Zuul."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.registries import ours
from tests.ports import free_port
from tests.roles import harness
from tests.roles.harness import Desk
from tests.roles.intermediate import KINDS, Served, intermediate, serving

MakeDesk = Callable[..., Desk]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install the present program once, by the role, where every user can run it."""
    with tempfile.TemporaryDirectory(prefix="buildset-registry-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "home").mkdir()
        desk = Desk(folder, harness.ansible_environment("newest"))
        run = desk.role(
            "install_buildset_registry",
            buildset_registry_venv=str(folder / "venv"),
            buildset_registry_package=str(harness.wheelhouse()),
        )
        assert run.code == 0, run.output
        yield folder / "venv"


@pytest.fixture
def make_desk(program: Path) -> Iterator[MakeDesk]:
    """Make desks whose registries and folders end with the test."""
    with tempfile.TemporaryDirectory(prefix="buildset-registry-") as name:
        desks: list[Desk] = []

        def make(version: str = "newest", user: str | None = None) -> Desk:
            folder = Path(name, f"desk{len(desks)}")
            desk = Desk(folder, harness.ansible_environment(version), user)
            desk.home.mkdir(parents=True)
            if user:
                subprocess.run(["usermod", "--home", desk.home, user], check=True)
                # What root has in the cache or a work tree, others may not be able to read.
                shutil.copytree(desk.environment, Path(name, "ansible"), symlinks=True)
                shutil.copytree(harness.ROLES, Path(name, "roles"))
                shutil.copytree(harness.wheelhouse(), Path(name, harness.wheelhouse().name))
                desk.environment, desk.roles = Path(name, "ansible"), Path(name, "roles")
                shutil.chown(folder, user, user)
                shutil.chown(desk.home, user, user)
            desk.variables = settings(folder, program)
            if user:
                house = Path(name, harness.wheelhouse().name)
                desk.variables["buildset_registry_package"] = str(house)
            desks.append(desk)
            return desk

        Path(name).chmod(0o755)
        yield make
        for desk in desks:
            root = desk.variables["buildset_registry_root"]
            desk.command(program / "bin" / "buildset-registry", "down", "--purge", "--root", root)


def settings(folder: Path, program: Path) -> dict[str, object]:
    """Keep a role inside a folder, on loopback and on ports that are free."""
    return {
        "buildset_registry_venv": str(program),
        "buildset_registry_package": str(harness.wheelhouse()),
        "buildset_registry_root": str(folder / "root"),
        "buildset_registry_host": "127.0.0.1",
        "buildset_registry_port": free_port(),
        "buildset_registry_push_port": free_port(),
        "buildset_registry_supervisor": "process",
    }


@pytest.fixture
def desk(make_desk: MakeDesk) -> Desk:
    """Run playbooks as whoever runs the tests, with the newest Ansible."""
    return make_desk()


@pytest.fixture
def ordinary_desk(make_desk: MakeDesk) -> Iterator[Desk]:
    """Run playbooks as a user who may do nothing special."""
    if os.getuid() != 0:
        yield make_desk()
        return
    with harness.ordinary_user() as user:
        desk = make_desk(user=user)
        yield desk
        root = desk.variables["buildset_registry_root"]
        program = Path(desk.variables["buildset_registry_venv"])
        desk.command(program / "bin" / "buildset-registry", "down", "--purge", "--root", root)


def clone_roles(target: Path) -> Path:
    """Clone the repository as Zuul does where a job wants the roles only."""
    git = ["git", "-c", "advice.detachedHead=false"]
    source = f"file://{harness.REPOSITORY}"
    subprocess.run([*git, "clone", "--quiet", "--no-checkout", source, target], check=True)
    folders = "roles tasks handlers templates files vars defaults meta library module_utils"
    sparse = ["sparse-checkout", "set", "--cone", *folders.split(), "lookup_plugins"]
    subprocess.run([*git, "-C", target, *sparse], check=True)
    subprocess.run([*git, "-C", target, "checkout", "--quiet"], check=True)
    return target


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Clone the roles for one test."""
    return clone_roles(tmp_path / "clone")


@pytest.fixture
def checkout(clone: Path) -> Path:
    """Add what Zuul adds to a part of a checkout: the folder of the playbooks that a job names."""
    subprocess.run(["git", "-C", clone, "sparse-checkout", "add", "playbooks/zuul"], check=True)
    return clone


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    """Run two buildsets' registries, an intermediate one of each kind, and a public one."""
    programs = [ours(), ours(), *map(intermediate, KINDS), intermediate("ours")]
    with serving(tmp_path_factory.mktemp("world"), *programs) as served:
        yield dict(zip(("first", "second", *KINDS, "public"), served, strict=True))
